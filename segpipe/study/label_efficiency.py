"""A study from its file to its folder: make the cells that are missing, compare them, write what was found."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpipe import __version__
from segpipe.core.atomic import write_json, write_text
from segpipe.core.errors import ConfigError, Exit, MachineError, SegpipeError, StopRequestError
from segpipe.dataset.manifest import Dataset
from segpipe.pipeline import Told, run_pipeline
from segpipe.report.wording import counted, without_paths
from segpipe.steps import load_pipeline
from segpipe.study.cells import Cell, Costs, Planned, Result, Runner, plan_cells
from segpipe.study.figures import Figures, as_json, gather
from segpipe.study.picture import chart, page, standalone
from segpipe.study.settings import StudyConfig, load_study
from segpipe.study.wording import as_csv, headline, markdown

FOLDER = "study"
COSTS = "costs.jsonl"


@dataclass(frozen=True)
class Study:
    """A study that is ready to run."""

    name: str
    config: StudyConfig
    base: str
    """Name of the pipeline's configuration."""
    extra: tuple[str, ...]
    """Settings given on the command line."""
    planned: tuple[Planned, ...]
    dataset: Dataset

    @property
    def out(self) -> Path:
        """The folder of what is found."""
        return self.planned[0].config.run.store / FOLDER


def run_study(name: str, places: Sequence[str], settings: Sequence[str], told: Told) -> Exit:
    """Make what is missing, and write study.md, .html, .svg, .csv and .json into the folder ``study`` of the store.

    A cell that fails is told of in one line, and the others go on; the next call tries it again.

    Args:
        name: A YAML file, or the name of a study that ships.
        places: Settings that say where data and results lie, key=value; they are not written anywhere.
        settings: Further settings of all cells.
        told: Who watches.

    Returns:
        FINE where every cell is there, QUARANTINED where some are missing.

    Raises:
        ConfigError: The study, or a setting of a condition, is wrong.
        SegpipeError: The data cannot be prepared, or not a single cell can be made.
    """
    study = _opened(name, places, settings, told)
    results, failures = _make(study, told)
    if not results:
        raise SegpipeError(f"no cell of the study could be made. The first: {next(iter(failures.values()))}")
    figures = _write(study, results)
    told.tell(headline(figures))
    for kind in ("md", "html", "svg", "csv", "json"):
        told.tell(str(study.out / f"study.{kind}"))
    return Exit.QUARANTINED if failures else Exit.FINE


def _opened(name: str, places: Sequence[str], settings: Sequence[str], told: Told) -> Study:
    """Plan all cells and prepare the data, so that what is wrong with either is known before anything is trained."""
    config, base = load_study(name)
    planned = plan_cells(config, base, [*places, *settings])
    first = planned[0].config
    made = run_pipeline(load_pipeline("prepare"), first, told, name="study, preparation")
    dataset = Dataset.open(made["ingest"], first.ingest.source.folder)
    there = len(dataset.fold(first.train.fold)[0])
    if max(config.labels) > there:
        raise ConfigError(f"{name}: labels: {max(config.labels)}: there are {there} labelled cases to train on.")
    return Study(Path(name).stem, config, base.stem, tuple(settings), tuple(planned), dataset)


def _make(study: Study, told: Told) -> tuple[list[Result], dict[Cell, str]]:
    """Make cell after cell; what is there after each seed is written."""
    runner = Runner(Costs(study.out / COSTS))
    results: list[Result] = []
    failures: dict[Cell, str] = {}
    to_make = sum(not one.found for one in study.planned)
    told.tell(f"{counted(len(study.planned), 'cell')}, {to_make} to make")
    with told.progress("cells", to_make) as advance:
        for index, one in enumerate(study.planned):
            try:
                result = runner.result(one)
            except (StopRequestError, MachineError):
                raise
            except SegpipeError as error:
                failures[one.cell] = str(error)
                told.tell(f"{one.cell.title}: failed: {error}")
            else:
                results.append(result)
                if not one.found:
                    cost = "" if result.cpu_s is None else f", trained in {result.cpu_s:.0f} CPU s"
                    told.tell(f"{one.cell.title}: Dice {result.mean:.4f}{cost}")
            advance(int(not one.found))
            last = index + 1 == len(study.planned) or study.planned[index + 1].cell.seed != one.cell.seed
            if last and to_make and results:
                _write(study, results)
    return results, failures


def _write(study: Study, results: Sequence[Result]) -> Figures:
    there = {result.cell for result in results}
    missing = [one.cell for one in study.planned if one.cell not in there]
    figures = gather(study.config, results, missing, study.dataset.subjects)
    about = _about(study, figures)
    picture = chart(figures)
    write_json(study.out / "study.json", as_json(figures, about))
    write_text(study.out / "study.csv", as_csv(figures))
    write_text(study.out / "study.svg", standalone(picture))
    write_text(study.out / "study.md", markdown(figures, about, "study.svg"))
    write_text(study.out / "study.html", page(figures, about, picture))
    return figures


def _about(study: Study, figures: Figures) -> dict[str, Any]:
    """Return what was run, without a folder of this machine."""

    def clean(texts: Sequence[str]) -> list[str]:
        return [without_paths(text, study.dataset.root) for text in texts]

    config = study.config
    return {
        "title": f"Label efficiency: {study.dataset.header.name}",
        "kind": config.kind,
        "command": " ".join(["segpipe study", f"{study.name}.yaml", "--data DATA -o OUT", *clean(study.extra)]),
        "data": study.dataset.header.name,
        "cases": len(figures.cases),
        "subjects": figures.subjects,
        "config": study.base,
        "settings": clean([*config.settings, *study.extra]),
        "conditions": {name: clean(own) for name, own in config.conditions.items()},
        "baseline": config.baseline,
        "labels": list(config.labels),
        "seeds": sorted({one.cell.seed for one in study.planned}),
        "seeded": list(config.seeded),
        "segpipe": __version__,
    }
