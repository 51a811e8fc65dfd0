"""Where the figures come from: artifacts, versions, seeds, hashes, times."""

import hashlib
import re
from typing import Any

from segpipe.report.material import STAGES, Material
from segpipe.report.wording import NARROW, UNDEFINED, number

SHORT = 16
MINUTE, HOUR = 60, 3600


def artifacts(material: Material) -> list[dict[str, str]]:
    """Return a row for each stage that ran: fingerprint, version, when, how long, with what."""
    rows = []
    for stage in STAGES:
        if stage not in material.receipts:
            continue
        receipt = material.receipts[stage]
        rows.append(
            {
                "stage": stage,
                "fingerprint": receipt.fingerprint,
                "version": _text(receipt("version")),
                "began": moment(receipt("made.began")),
                "took": duration(receipt("made.seconds")),
                "segpipe": _text(receipt("made.segpipe")),
                "python": _text(receipt("made.python")),
            }
        )
    return rows


def facts(material: Material) -> list[tuple[str, str]]:
    """Return hashes and seeds, each with its name."""
    found = [("Data (SHA-256 over all source files)", data_hash(material))]
    if weights := material.model.get("weights_sha256"):
        found.append(("Model weights (SHA-256)", str(weights)))
    seeds = (
        ("Seed of the split", "ingest", "settings.ingest.split.seed"),
        ("Seed of the training", "train", "settings.train.fit.seed"),
        ("Seed of the bootstrap", "evaluate", "settings.evaluate.seed"),
    )
    for name, stage, key in seeds:
        value = material.receipt(stage)(key)
        if value is not None:
            found.append((name, str(value)))
    return found


def data_hash(material: Material) -> str:
    """Return one hash for the content of all source files, whatever they are called."""
    hashes = [(case.id, ref.sha256) for case in material.dataset.cases for ref in (*case.images, case.label) if ref]
    return hashlib.sha256("\n".join(f"{case} {sha}" for case, sha in sorted(hashes)).encode()).hexdigest()


def date(material: Material) -> str:
    """Return the day of the evaluation; the clock plays no part, so that a report can be made again."""
    return moment(material.receipt("evaluate")("made.began"))[:10]


def moment(began: Any) -> str:
    """Return ``2026-11-23 18:44 UTC`` of an ISO time, or nothing."""
    match = re.match(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)", str(began))
    return f"{match[1]} {match[2]} UTC" if match else ""


def duration(seconds: Any) -> str:
    """Return seconds as people say them."""
    if not isinstance(seconds, int | float):
        return UNDEFINED
    if seconds < MINUTE:
        return f"{number(seconds, 1)}{NARROW}s"
    if seconds < HOUR:
        return f"{seconds // MINUTE:.0f} min {seconds % MINUTE:.0f} s"
    return f"{seconds // HOUR:.0f} h {seconds % HOUR // MINUTE:.0f} min"


def _text(value: Any) -> str:
    return UNDEFINED if value is None else str(value)
