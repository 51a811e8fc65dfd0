"""A commented first config for a data set that was looked at."""

import json
from collections.abc import Iterator
from pathlib import Path

from segpipe.core.atomic import write_text
from segpipe.core.errors import ConfigError, DataError
from segpipe.dataset.sources.auto import Auto
from segpipe.dataset.sources.naming import ASSUMED
from segpipe.dataset.survey import PicturesConfig, survey
from segpipe.imaging.pictures import is_picture

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
{pictures}  split: {{test_fraction: 0.2, folds: 5, seed: 0}}

# preprocess:
#   plan: {{{size}}}   # planned from the data where left out
#   weight: {{kind: border}}                                  # the original U-Net's border weight map

train:
  fit: {{steps: 1000, seed: 0}}     # more steps: better, until they are not; see the curves in the report

evaluate:
  metrics: {{nsd_tolerances_mm: [1.0, 2.0]}}

run:
  store: work             # all results; -o OUT is short for it
"""

PICTURES = """\
  # pictures: {pixel_size_um: 0.65}      # if the files do not tell it; without, lengths are in pixels
  # pictures: {page_is_subject: true}    # if the pages of one TIFF stack may be divided between training and test
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
    found = survey(found, PicturesConfig())
    if assumed := next((note for note in found.notes if note.startswith(ASSUMED)), None):
        labels = f"    labels: {{{assumed.removeprefix(ASSUMED)}   # rename it\n"
    flat = found.header.reading.flat or is_picture(found.cases[0].images[0])
    text = TEXT.format(
        size="spacing: [1.0, 1.0], patch: [128, 128]" if flat else "spacing: [1.0, 1.0, 1.0], patch: [64, 64, 64]",
        pictures=PICTURES if flat and not found.header.reading.flat else "",
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
    yield from (note for note in found.notes if not note.startswith(ASSUMED))
    yield f"next: segpipe run {out}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
