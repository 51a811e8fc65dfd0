"""Everything above -> report.html."""

from segpipe.core.atomic import write_text
from segpipe.core.section import Section
from segpipe.core.stage import Inputs, Stage, Summary, Workspace
from segpipe.dataset.settings import IngestConfig
from segpipe.report.chapters import chapters, chosen, show
from segpipe.report.material import read_material
from segpipe.report.page import page
from segpipe.report.settings import ReportConfig

__all__ = ["STAGE", "ReportConfig", "Settings", "run"]

PAGE = "report.html"


class Settings(Section):
    """Everything that decides what this stage writes."""

    ingest: IngestConfig
    report: ReportConfig


def run(settings: Settings, inputs: Inputs, work: Workspace) -> Summary:
    """Write the report of whatever there is: a stage that did not run leaves its chapter out."""
    material = read_material(inputs, settings.ingest.source.folder)
    wanted = chosen(material, settings.report)
    cases = []
    with work.progress("drawing", len(wanted)) as advance:
        for pick in wanted:
            cases.append(show(material, pick, settings.report))
            advance(1)
    told = chapters(material, settings.report, cases)
    text = page(told)
    write_text(work.path / PAGE, text)
    return {
        "cases": len(material.scores.cases),
        "pictures": sum(case.cut is not None for case in cases),
        "findings": len(told["findings"]),
        "kilobytes": round(len(text.encode()) / 1000),
    }


STAGE = Stage(
    "report",
    Settings,
    run,
    needs=("ingest", "evaluate"),
    may_use=("preprocess", "pretrain", "train", "qc", "infer"),
    version=2,
)
