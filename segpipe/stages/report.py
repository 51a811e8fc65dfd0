"""Everything above -> report.html."""

from segpipe.core.section import Section
from segpipe.core.stage import Inputs, Stage, Summary, Workspace
from segpipe.dataset.settings import IngestConfig


class ReportConfig(Section):
    """What the report shows."""


class Settings(Section):
    """Everything that decides what this stage writes."""

    ingest: IngestConfig
    report: ReportConfig


def run(settings: Settings, inputs: Inputs, work: Workspace) -> Summary:
    """To be written."""
    return {}


STAGE = Stage(
    "report",
    Settings,
    run,
    needs=("ingest", "evaluate"),
    may_use=("preprocess", "pretrain", "train", "infer"),
)
