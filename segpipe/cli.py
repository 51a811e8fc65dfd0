"""The command line: each command parses, calls one function, prints."""

import errno
import json
import logging
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from segpipe import __version__
from segpipe.core.errors import Exit, SegpipeError
from segpipe.core.machine import set_switches

app = typer.Typer(
    help="From a folder of scans and labels to a scored, reported segmentation model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
config_app = typer.Typer(help="Look at settings.", no_args_is_help=True)
app.add_typer(config_app, name="config")

INTERRUPTED = 130
Settings = Annotated[list[str] | None, typer.Argument(help="Settings laid over the config: train.fit.steps=500 …")]
ConfigName = Annotated[str, typer.Argument(help="A YAML file, or the name of a config that ships.")]
Data = Annotated[Path | None, typer.Option("--data", help="Folder of the data set; short for ingest.source.root=…")]
Out = Annotated[Path | None, typer.Option("-o", "--out", help="Folder of all results; short for run.store=…")]
Pipeline = Annotated[str, typer.Option("--pipeline", help="A YAML file, or the name of a pipeline that ships.")]


def fail(message: str, code: int) -> NoReturn:
    """Print one line to the error stream and leave."""
    typer.echo(f"segpipe: {message}", err=True)
    raise typer.Exit(code)


def explained(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn errors that a user can mend into one line and an exit code; anything else is a bug and shows itself."""

    @wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        logging.basicConfig(level=logging.WARNING, format="segpipe: %(message)s")
        try:
            return command(*arguments, **options)
        except SegpipeError as error:
            fail(str(error), error.code)
        except KeyboardInterrupt:
            fail("stopped. Run the same command again to go on from here.", INTERRUPTED)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS):
                fail(
                    f"{error.filename or 'the disk'}: {error.strerror}. What was finished is kept.",
                    Exit.ENVIRONMENT,
                )
            raise

    return wrapped


@app.callback(invoke_without_command=True)
def main_options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Print the version where it is asked for."""
    if version:
        typer.echo(f"segpipe {__version__}")
        raise typer.Exit


@app.command()
@explained
def run(
    config: ConfigName = "default",
    settings: Settings = None,
    data: Data = None,
    out: Out = None,
    pipeline: Pipeline = "full",
    only: Annotated[str | None, typer.Option("--only", help="Run this stage alone; the others must be there.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail if a single case is set aside.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Make what is not made yet: ingest, preprocess, train, infer, evaluate, report."""
    from segpipe.pipeline import run_pipeline  # noqa: PLC0415 - keeps --help instant
    from segpipe.steps import load_pipeline  # noqa: PLC0415
    from segpipe.terminal import Terminal  # noqa: PLC0415

    extra = ["run.strict=true"] if strict else []
    name, loaded = read_config(config, settings, data, out, extra)
    terminal = Terminal()
    made = run_pipeline(load_pipeline(pipeline), loaded, terminal, name=name, only=only)
    raise typer.Exit(terminal.closing(loaded.run.store, made))


@app.command()
@explained
def train(
    config: ConfigName = "default",
    settings: Settings = None,
    data: Data = None,
    out: Out = None,
    profile: Annotated[bool, typer.Option("--profile", help="Train a few steps, save none, tell their cost.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Make a trained model: ingest, preprocess, train."""
    if not profile:
        run(config, settings, data, out, pipeline="train")
        return
    _, loaded = read_config(config, settings, data, out)
    from segpipe.pipeline import profile_training  # noqa: PLC0415 - keeps --help instant
    from segpipe.terminal import Terminal  # noqa: PLC0415

    for line in profile_training(loaded, Terminal()):
        typer.echo(line)


@app.command()
@explained
def study(
    name: Annotated[str, typer.Argument(metavar="STUDY", help="A YAML file, or the name of a study that ships.")],
    settings: Settings = None,
    data: Data = None,
    out: Out = None,
) -> None:
    """Train under several conditions, with few labels and many, and tell what helps."""
    from segpipe.study.label_efficiency import run_study  # noqa: PLC0415 - keeps --help instant
    from segpipe.terminal import Terminal  # noqa: PLC0415

    raise typer.Exit(run_study(name, places(data, out), settings or [], Terminal()))


@app.command()
@explained
def compare(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN…", help="Folders of runs (OUT) or of scores; or name=folder.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the comparison.")] = Path("compare"),
    primary: Annotated[
        list[str] | None,
        typer.Option("--primary", help="The score that decides: dice (of the mean over structures), or label:metric."),
    ] = None,
    baseline: Annotated[str | None, typer.Option("--baseline", help="Compare the others with this run only.")] = None,
    margin: Annotated[
        float | None, typer.Option("--margin", min=0, help="Non-inferiority: the largest loss that you would accept.")
    ] = None,
    subjects: Annotated[
        Path | None, typer.Option("--subjects", help="CSV with the columns case and subject; else as the runs say.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of resampling and of random sign flips.")] = 0,
) -> None:
    """Compare two or more models on the cases that all have: one page with tests, intervals and a verdict."""
    from segpipe.compare.comparison import compare as compare_folders  # noqa: PLC0415 - keeps --help instant
    from segpipe.compare.figures import Plan, parse_primary  # noqa: PLC0415

    keys = parse_primary(primary or ["dice"])
    raise typer.Exit(compare_folders(runs, out, Plan(keys, baseline, margin, seed=seed), subjects, typer.echo))


@app.command()
@explained
def plan(
    config: ConfigName = "default",
    settings: Settings = None,
    data: Data = None,
    out: Out = None,
    pipeline: Pipeline = "full",
) -> None:
    """Name every step of a run: found, or to make. Nothing is run."""
    from segpipe.core.store import Store  # noqa: PLC0415
    from segpipe.steps import load_pipeline, plan_steps  # noqa: PLC0415

    _, loaded = read_config(config, settings, data, out)
    for step in plan_steps(load_pipeline(pipeline), loaded, Store(loaded.run.store)):
        typer.echo(f"{step.title:<12} {step.fingerprint}  {'found' if step.found else 'to make'}")


@app.command()
@explained
def predict(
    model: Annotated[Path, typer.Argument(help="A model folder, such as OUT/latest/model.")],
    scans: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the label maps.")],
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Leave label maps that are there.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Segment new scans with a trained model; nothing but its folder is needed."""
    from segpipe.predict.batch import predict_files  # noqa: PLC0415
    from segpipe.predict.scans import alarms  # noqa: PLC0415
    from segpipe.terminal import Terminal  # noqa: PLC0415

    terminal = Terminal()
    done, refused = predict_files(model, scans, out, terminal.progress, device=device, skip_existing=skip_existing)
    for refusal in refused:
        typer.echo(f"set aside: {refusal}", err=True)
    for line in alarms(out):
        typer.echo(f"look at it: {line}", err=True)
    typer.echo(f"{len(done)} segmented, {len(refused)} set aside: {out}")
    raise typer.Exit(Exit.FINE if not refused else Exit.QUARANTINED if done else Exit.UNUSABLE)


@app.command()
@explained
def verify(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of all results, as given to -o.")],
    data: Annotated[Path | None, typer.Option("--data", help="Where the data set lies now, if it was moved.")] = None,
    scores: Annotated[bool, typer.Option("--scores", help="Score every case again, not only a few.")] = False,  # noqa: FBT002 - a flag
    everything: Annotated[bool, typer.Option("--all", help="Earlier results too, not only the latest.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Recompute every link from raw file to report; name what is broken."""
    from segpipe.terminal import Terminal  # noqa: PLC0415 - keeps --help instant
    from segpipe.verify.verify import verify as looked_at  # noqa: PLC0415

    verdicts = looked_at(out, Terminal().progress, data=data, scores=scores, everything=everything)
    for verdict in verdicts:
        typer.echo(str(verdict))
    faults = [fault for verdict in verdicts for fault in verdict.faults]
    for fault in faults:
        typer.echo(f"broken: {fault}", err=True)
    typer.echo(f"{len(faults)} broken." if faults else "Nothing is broken.")
    raise typer.Exit(Exit.QUARANTINED if faults else Exit.FINE)


@app.command()
@explained
def score(
    predictions: Annotated[Path, typer.Argument(help="Folder of predicted label maps, made by any tool.")],
    references: Annotated[Path, typer.Argument(help="Folder of reference label maps, of the same file names.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of scores.csv, summary.json and report.html.")],
    settings: Annotated[list[str] | None, typer.Argument(help="Settings: evaluate.metrics.surface=false …")] = None,
    labels: Annotated[str | None, typer.Option(help="a=1,b=2, a YAML file of names, or a dataset.json.")] = None,
    covariates: Annotated[Path | None, typer.Option(help="CSV: case, and as you like subject, site, …")] = None,
) -> None:
    """Compare two folders of label maps: scores, summary, report."""
    from segpipe.scoring.folders import Wanted, score_folders  # noqa: PLC0415 - keeps --help instant
    from segpipe.terminal import Terminal  # noqa: PLC0415

    _, loaded = read_config("default", settings, references, out)
    terminal = Terminal()
    scored = score_folders(Wanted(predictions, references, out, labels, covariates), loaded, terminal)
    for line in (*scored.remarks, *(f"set aside: {refusal}" for refusal in scored.refused)):
        typer.echo(line, err=True)
    if scored.cases:
        terminal.scores(out / "summary.json")
    typer.echo(f"{scored.cases} scored, {len(scored.refused)} set aside: {out}")
    raise typer.Exit(scored.code)


@app.command()
@explained
def phantom(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    cases: Annotated[int, typer.Option(min=2, help="Number of cases.")] = 24,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other cases.")] = 0,
    rank: Annotated[int, typer.Option(min=2, max=3, help="3: scans in MSD layout; 2: PNG pictures in folders.")] = 3,
) -> None:
    """Make a small labelled cohort, in 3D or 2D, the same for the same seed."""
    from segpipe.dataset.phantom import PhantomConfig, write_cohort  # noqa: PLC0415
    from segpipe.dataset.phantom_pictures import write_pictures  # noqa: PLC0415

    write = write_pictures if rank == 2 else write_cohort
    write(out, PhantomConfig(cases=cases, seed=seed))
    typer.echo(f"{cases} phantoms: {out}")


@app.command()
@explained
def init(
    data: Annotated[Path, typer.Argument(help="Folder of the data set, or a CSV file.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The config to write.")] = Path("segpipe.yaml"),
) -> None:
    """Look at a data set and write a commented config for it."""
    from segpipe.starter import write_starter  # noqa: PLC0415

    for line in write_starter(data, out):
        typer.echo(line)


@config_app.command("show")
@explained
def show(config: ConfigName = "default", settings: Settings = None, data: Data = None, out: Out = None) -> None:
    """Print the whole configuration, defaults filled in."""
    import yaml  # noqa: PLC0415

    _, loaded = read_config(config, settings, data, out)
    typer.echo(yaml.safe_dump(loaded.model_dump(mode="json"), sort_keys=False))


@config_app.command("explain")
@explained
def explain_key(
    key: Annotated[str, typer.Argument(help="A dotted key, such as train.optim.learning_rate.")],
) -> None:
    """Print meaning, type, default and home of a setting."""
    from segpipe.config import explain  # noqa: PLC0415

    for line in explain(key):
        typer.echo(line)


@config_app.command("docs")
@explained
def docs() -> None:
    """Print every setting as Markdown: the text of docs/config.md."""
    from segpipe.config import describe  # noqa: PLC0415

    typer.echo(describe())


def read_config(
    config: str,
    settings: list[str] | None,
    data: Path | None,
    out: Path | None,
    extra: list[str] | None = None,
) -> tuple[str, Any]:
    """Return the name of a run and its configuration, the short options laid over it."""
    from segpipe.config import load_config  # noqa: PLC0415
    from segpipe.shipped import shipped  # noqa: PLC0415

    overrides = places(data, out)
    path = Path(config)
    if path.suffix not in (".yaml", ".yml"):
        if "=" in config:  # the config was left out, and a setting stands in its place
            overrides, path = [*overrides, config], shipped("configs", "default")
        else:
            path = shipped("configs", config)
    return path.stem, load_config(path, [*overrides, *(settings or []), *(extra or [])])


def places(data: Path | None, out: Path | None) -> list[str]:
    """Return the short options as settings."""
    # quoted: YAML would take a folder named 2026-03-01 for a date
    overrides = [f"ingest.source.root={json.dumps(str(data), ensure_ascii=False)}"] if data else []
    return overrides + ([f"run.store={json.dumps(str(out), ensure_ascii=False)}"] if out else [])


def main() -> None:
    """Run the command line."""
    set_switches()
    app(prog_name="segpipe")
