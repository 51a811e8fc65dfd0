"""A commented first config for a data set that was looked at."""

import json
from collections.abc import Iterator
from pathlib import Path

from segpipe.core.atomic import write_text
from segpipe.core.errors import ConfigError, DataError
from segpipe.dataset.sources.auto import Auto

TEXT = """\
# Written by 'segpipe init' for {name}: {count} cases, layout {layout}.
# Channels: {channels}. Structures: {structures}.
# Every other setting has a default: 'segpipe config show {file}' prints them all,
# 'segpipe config explain train.fit.steps' tells what one means.

ingest:
  source:
    kind: auto            # or msd, nnunet, folder, csv
    root: {root}
{labels}  # subject_pattern: "(sub-[0-9]+)"   # if a subject has several cases: what in the id names it
  split: {{test_fraction: 0.2, folds: 5, seed: 0}}

# preprocess:
#   plan: {{spacing: [1.0, 1.0, 1.0], patch: [64, 64, 64]}}   # planned from the data where left out
#   weight: {{kind: border}}                                  # the original U-Net's border weight map

train:
  fit: {{steps: 1000, seed: 0}}     # more steps: better, until they are not; see the curves in the report

evaluate:
  metrics: {{nsd_tolerances_mm: [1.0, 2.0]}}

run:
  store: work             # all results; -o OUT is short for it
"""


def write_starter(data: Path, out: Path) -> Iterator[str]:
    """Write a config for ``data`` and yield lines that say what was seen.

    Raises:
        ConfigError: The file is there already.
        DataError: The layout of the data is not known.
    """
    if out.exists():
        raise ConfigError(f"{out}: is there already. Choose another name with -o, or delete it.")
    labels, named = "", True
    source = Auto(root=data)
    try:
        found = source.read()
    except DataError as error:
        if "the labels have no names" not in str(error):
            raise
        named, line = False, str(error).rsplit("labels: {", 1)[-1].rstrip("}")
        values = {pair.split(":")[0].strip(): int(pair.split(":")[1]) for pair in line.split(",")}
        labels = f"    labels: {{{line}}}   # rename these\n"
        found = Auto(root=data, labels=values).read()
    text = TEXT.format(
        name=_one_line(found.header.name),
        count=len(found.cases),
        layout=found.header.layout,
        channels=_one_line(", ".join(channel.name for channel in found.header.channels)),
        structures=_one_line(", ".join(found.header.labels.names)),
        file=out,
        root=json.dumps(str(data), ensure_ascii=False),  # quoted: a folder may be named 2026-03-01, or hold a colon
        labels=labels,
    )
    write_text(out, text)
    yield f"{found.header.name}: {len(found.cases)} cases, layout {found.header.layout}"
    yield f"structures: {', '.join(found.header.labels.names)}" + ("" if named else " (rename them in the config)")
    yield f"next: segpipe run {out}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
