"""The command line: each command parses, calls one function, prints."""

from pathlib import Path
from typing import Annotated

import typer

from segpipe import __version__, judging
from segpipe.core.errors import Exit
from segpipe.core.leaving import leaving_in_time
from segpipe.core.machine import set_switches
from segpipe.options import ConfigName, Data, Out, Pipeline, Settings, explained, places, read_config

app = typer.Typer(
    help="From a folder of scans and labels to a scored, reported segmentation model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
config_app = typer.Typer(help="Look at settings.", no_args_is_help=True)
app.add_typer(config_app, name="config")


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


# registered where --help lists them
app.command()(explained(judging.compare))


@app.command()
@explained
def plan(
    config: ConfigName = "default",
    settings: Settings = None,
    data: Data = None,
    out: Out = None,
    pipeline: Pipeline = "full",
) -> None:
    """Name every step of a run: found, or to make. Nothing is run; once data are prepared, all settings are checked."""
    from segpipe.core.stage import Inputs  # noqa: PLC0415
    from segpipe.core.store import Store  # noqa: PLC0415
    from segpipe.steps import foresee, load_pipeline, plan_steps  # noqa: PLC0415

    _, loaded = read_config(config, settings, data, out)
    steps = plan_steps(load_pipeline(pipeline), loaded, Store(loaded.run.store))
    for step in steps:
        typer.echo(f"{step.title:<12} {step.fingerprint}  {'found' if step.found else 'to make'}")
    there = Inputs({step.key: step.found for step in steps if step.found})
    if there.get("preprocess"):
        foresee([step for step in steps if not step.found], there)


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


app.command()(explained(judging.verify))
app.command()(explained(judging.score))


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


def main() -> None:
    """Run the command line."""
    set_switches()
    with leaving_in_time():
        app(prog_name="segpipe")
