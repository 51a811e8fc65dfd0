"""Model and test cases -> label maps on the grid of their input files."""

from typing import Literal

from segpipe.core.errors import ConfigError, SegpipeError
from segpipe.core.section import Section
from segpipe.core.stage import Inputs, Stage, Summary, Workspace
from segpipe.dataset.manifest import Case, Dataset, Refusal, write_jsonl
from segpipe.dataset.plan import load_image
from segpipe.dataset.settings import IngestConfig
from segpipe.imaging.files import write_volume
from segpipe.imaging.masks import CleanUp
from segpipe.predict.segmenter import Segmenter
from segpipe.predict.window import WindowConfig


class InferConfig(Section):
    """Which cases are segmented, and how."""

    cases: Literal["test", "all"] = "test"
    """`test`: the untouched split; `all`: every case, the training ones too."""
    window: WindowConfig = WindowConfig()
    """How tiles cover an image."""
    clean: CleanUp = CleanUp()
    """What is done to a predicted label map before it is written."""


class Settings(Section):
    """Everything that decides what this stage writes."""

    ingest: IngestConfig
    infer: InferConfig


def run(settings: Settings, inputs: Inputs, work: Workspace) -> Summary:
    """Segment each case; one that fails is named, and the others go on."""
    dataset = Dataset.open(inputs["ingest"], settings.ingest.source.folder)
    wanted = settings.infer
    segmenter = Segmenter.load(inputs["train"] / "model", work.device, wanted.window, wanted.clean)
    if unknown := set(wanted.clean.largest_only) - set(segmenter.plan.labels.names):
        raise ConfigError(f"infer.clean.largest_only: no structure is named {sorted(unknown)[0]}. Take it out.")
    cases = dataset.cases if wanted.cases == "all" else dataset.part("test")
    failed: list[Refusal] = []
    with work.progress("segmenting", len(cases)) as advance:
        for case in cases:
            try:
                _segment(case, dataset, segmenter, work)
            except SegpipeError as error:
                failed.append(Refusal(case.id, str(error)))
            advance(1)
    write_jsonl(work.path / "failed.jsonl", [vars(refusal) for refusal in failed])
    return {"cases": len(cases) - len(failed), "failed": len(failed)}


def _segment(case: Case, dataset: Dataset, segmenter: Segmenter, work: Workspace) -> None:
    target = work.path / "predictions" / f"{case.id}.nii.gz"
    if target.is_file():
        return  # made before the stage was interrupted; files are whole or absent
    files = dataset.files(case)
    write_volume(target, segmenter(load_image(files)), header_of=files.images[0])


STAGE = Stage("infer", Settings, run, needs=("ingest", "train"))
