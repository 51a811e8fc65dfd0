"""Everything above -> report.html, the same as a PDF, and the checklist by itself."""

from typing import Any

from segpipe.core.atomic import write_text
from segpipe.core.errors import ConfigError, MachineError
from segpipe.core.parallel import run_cases
from segpipe.core.section import Section
from segpipe.core.stage import Inputs, Stage, Summary, Workspace
from segpipe.dataset.manifest import Dataset
from segpipe.dataset.settings import IngestConfig
from segpipe.report.chapters import chapters
from segpipe.report.claim import as_csv, as_markdown
from segpipe.report.gallery import Shown, in_order, jobs, show
from segpipe.report.material import read_material
from segpipe.report.page import page
from segpipe.report.pdf import browser, print_page
from segpipe.report.settings import ReportConfig

__all__ = ["STAGE", "ReportConfig", "Settings", "run"]

PAGE, PRINTED = "report.html", "report.pdf"
CHECKLIST = "claim.csv", "claim.md"


class Settings(Section):
    """Everything that decides what this stage writes."""

    ingest: IngestConfig
    report: ReportConfig


def run(settings: Settings, inputs: Inputs, work: Workspace) -> Summary:
    """Write the report of whatever there is: a stage that did not run leaves its chapter out."""
    config = settings.report
    material = read_material(inputs, settings.ingest.source.folder)
    wanted = jobs(material, config)
    shown: dict[str, Shown] = {}
    with work.progress("drawing", len(wanted)) as advance:
        for case, one in run_cases(work.executor, show, [(job.case, job) for job in wanted]):
            shown[case] = one
            advance(1)
    cases = in_order(wanted, shown)
    told = chapters(material, config, cases)
    text = page(told)
    write_text(work.path / PAGE, text)
    for name, written in zip(CHECKLIST, (as_csv(told["checklist"]), as_markdown(told["checklist"])), strict=True):
        write_text(work.path / name, written)
    if config.pdf:
        _print(told, work)
    return {
        "cases": len(material.scores.cases),
        "pictures": sum(case.cut is not None for case in cases),
        "findings": len(told["findings"]),
        "kilobytes": round(len(text.encode()) / 1000),
    }


def foresee(settings: Settings, inputs: Inputs) -> None:
    """Refuse to show a channel that there is not.

    Raises:
        ConfigError: The images have fewer.
    """
    channels = len(Dataset.open(inputs["ingest"], settings.ingest.source.folder).header.channels)
    if settings.report.channel >= channels:
        raise ConfigError(
            f"report.channel={settings.report.channel}: "
            + (f"the images have channels 0 to {channels - 1}." if channels > 1 else "the images have one channel, 0.")
        )


def _print(told: dict[str, Any], work: Workspace) -> None:
    """Write the PDF; where that is impossible the page is enough, and one line says so."""
    try:
        print_page(page(told, printed=True), work.path / PRINTED)
    except MachineError as error:
        work.tell(f"no {PRINTED}: {error}")


def _printer(settings: Settings) -> Any:
    """Return whether there is a browser that prints: once one is installed, the report is made anew, with its PDF."""
    return bool(browser()) if settings.report.pdf else None


STAGE = Stage(
    "report",
    Settings,
    run,
    needs=("ingest", "evaluate"),
    may_use=("preprocess", "pretrain", "train", "qc", "infer"),
    version=3,
    identity=_printer,
    foresee=foresee,
)
