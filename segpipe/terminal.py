"""What a person sees in the terminal during a run and at its end."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from segpipe.core.errors import Exit
from segpipe.core.stage import Artifact, Inputs, Summary
from segpipe.latest import KEPT, LATEST
from segpipe.pipeline import Told
from segpipe.score.summary import OVERALL
from segpipe.score.table import known_name
from segpipe.steps import Step

MAIN = ("dice", "hd95_mm", "vrand", "vinfo", "pixel_error")
"""Metrics in the table at the end; the last three where objects are told apart."""
SHOWN = 20


class Terminal(Told):
    """Prints a line a stage, a bar for long work, and at the end figures and paths."""

    def __init__(self) -> None:
        # of several processes that train together, the first one speaks
        self.console = Console(highlight=False, soft_wrap=True, quiet=os.environ.get("RANK", "0") != "0")
        self.began: dict[str, float] = {}

    def begins(self, step: Step) -> None:
        """Note the time."""
        self.began[step.key] = time.monotonic()

    def step(self, step: Step, artifact: Artifact) -> None:
        """Print what was found or made."""
        name = step.title
        if step.found is not None:
            self.console.print(f"{name:<12} {artifact.fingerprint}  found, nothing to do")
        else:
            seconds = time.monotonic() - self.began[step.key]
            told = _words(artifact.summary)
            self.console.print(f"{name:<12} {artifact.fingerprint}  made in {seconds:.1f} s   {told}", markup=False)
        if step.stage.name == "ingest":
            self._quarantine(artifact.path / "quarantine.jsonl")

    def _quarantine(self, path: Path) -> None:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines[:SHOWN]:
            self.console.print(f"  set aside: {line['case']} {line['reason']}", markup=False)
        if len(lines) > SHOWN:
            self.console.print(f"  and {len(lines) - SHOWN} more: {path}", markup=False)

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a bar with the time left while work goes on."""
        columns = (
            TextColumn(f"  {what}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        if not self.console.is_terminal:  # a log file wants lines, not bars
            yield lambda done: None
            return
        with Progress(*columns, console=self.console, transient=True) as bars:
            bar = bars.add_task(what, total=total)
            yield lambda done: bars.update(bar, advance=done)

    def tell(self, text: str) -> None:
        """Print a line under the stage that works."""
        self.console.print(f"  {text}", markup=False)

    def closing(self, store: Path, made: Inputs) -> Exit:
        """Print the figures and where everything lies; return the exit code."""
        for point, evaluated in made.every("evaluate").items():
            if point:
                self.console.print(f"\n{point}")
            self.scores(evaluated.path / "summary.json")
        for name, (stage, inside) in KEPT.items():
            if (folder := made.get(stage)) and (folder / inside).exists():
                self.console.print(f"{name:<18} {store / LATEST / name}", markup=False)
        aside = made.summary("ingest").get("quarantined", 0)
        failed = max((one.summary.get("failed", 0) for one in made.every("infer").values()), default=0)
        if aside or failed:
            self.console.print(
                f"{aside + failed} case(s) set aside; the reasons stand above, in quarantine.jsonl and in the report."
            )
            return Exit.QUARANTINED
        return Exit.FINE

    def scores(self, path: Path) -> None:
        """Print the main figures of a summary.json as a table."""
        summary = json.loads(path.read_text())
        table = Table(title=None, box=None, pad_edge=False, header_style="bold")
        for column in (
            "structure",
            "metric",
            "mean",
            f"{summary['confidence']:.0%} interval",
            "median",
            "cases",
        ):
            table.add_column(column, justify="left" if column in ("structure", "metric") else "right")
        single = len({row["label"] for row in summary["scores"]} - {OVERALL}) == 1
        for row in summary["scores"]:
            if single and row["label"] == OVERALL:
                continue  # the mean over one structure is that structure
            if known_name(row["metric"]) in MAIN and row["mean"] is not None:
                between = "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
                table.add_row(
                    row["label"],
                    row["metric"],
                    f"{row['mean']:.3f}",
                    between,
                    f"{row['median']:.3f}",
                    str(row["n"]),
                )
        self.console.print()
        self.console.print(table)
        self.console.print()


def _words(summary: Summary) -> str:
    return ", ".join(
        f"{key} {value:.3f}" if isinstance(value, float) else f"{key} {value}" for key, value in summary.items()
    )
