"""Where the figures come from: artifacts, versions, seeds, hashes, times."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from segpipe.core.contents import SUMS
from segpipe.core.fingerprint import file_sha256
from segpipe.report.material import STAGES, Material
from segpipe.report.wording import NARROW, UNDEFINED, number

SHORT = 16
MINUTE, HOUR = 60, 3600
TRACED = {
    "ingest": (("manifest.jsonl", "Manifest: each raw file and its SHA-256"), ("splits.json", "Division into parts")),
    "preprocess": (("plan.json", "Plan"),),
    "pretrain": (("encoder.safetensors", "Pretrained weights"),),
    "train": (("model/weights.safetensors", "Weights"), ("model/model.json", "Description of the model")),
    "infer": ((SUMS, "Label maps: each and its SHA-256"),),
    "evaluate": (("scores.csv", "Scores of each case"), ("summary.json", "Means and intervals")),
}
"""Files between raw data and report, and what each is."""


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
                "contents": _text(receipt("contents")),
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


def files(material: Material) -> list[tuple[str, str, str]]:
    """Return what, place in the store, and SHA-256 of the files that figures go through, in the order of their making.

    Of several networks each has its weights. What was made before hashes were kept is left out.
    """
    found = []
    for artifact in material.artifacts:
        for name, what in TRACED.get(artifact.stage, ()):
            if (path := artifact.path / name).is_file():
                found.append((what, f"{artifact.stage}/{artifact.fingerprint}/{name}", file_sha256(path)))
    return found


def machines(material: Material) -> list[tuple[str, str]]:
    """Return what the stages ran on and with: hardware, system, libraries; alike ones together."""
    told: dict[str, list[str]] = {}
    libraries: dict[str, str] = {}
    for stage, receipt in material.receipts.items():
        if said := _machine(receipt("made") or {}):
            told.setdefault(said, []).append(stage)
        libraries |= receipt("made.libraries") or {}
    rows = [(f"Machine of {', '.join(stages)}" if len(told) > 1 else "Machine", said) for said, stages in told.items()]
    if libraries:
        rows.append(("Libraries", ", ".join(f"{name} {version}" for name, version in libraries.items())))
    return rows


def _machine(made: Mapping[str, Any]) -> str:
    if not made.get("processor"):
        return ""
    parts = [
        f"{made['processor']} ({made.get('processors')} logical processors)",
        f"{made['memory_gib']:g} GiB of memory" if made.get("memory_gib") else "",
        made.get("gpu") or "no graphics card used",
        made.get("system") or "",
    ]
    return ", ".join(part for part in parts if part)


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
