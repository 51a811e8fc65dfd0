"""The stages, in the order in which data flows."""

from typing import Any

from segpipe.core.stage import Stage
from segpipe.stages import evaluate, infer, ingest, preprocess, pretrain, qc, report, train

STAGES: dict[str, Stage[Any]] = {
    stage.name: stage
    for stage in (
        ingest.STAGE,
        preprocess.STAGE,
        pretrain.STAGE,
        train.STAGE,
        qc.STAGE,
        infer.STAGE,
        evaluate.STAGE,
        report.STAGE,
    )
}
"""Every stage by its name."""
