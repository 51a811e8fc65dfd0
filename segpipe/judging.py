"""The commands that judge finished results, whoever made them."""

from pathlib import Path
from typing import Annotated

import typer

from segpipe.core.errors import Exit
from segpipe.options import read_config


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
