"""Links of content: raw files to the manifest, cases to models, weights to their description, maps to scores."""

import json
import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from segpipe.core.errors import ArtifactError
from segpipe.core.fingerprint import file_sha256
from segpipe.dataset.manifest import DESCRIBED, MANIFEST, Case, Dataset, FileRef, read_jsonl
from segpipe.nets.checkpoint import ENCODER, MODEL, WEIGHTS
from segpipe.predict.origin import content_hash
from segpipe.score.reliability_file import RELIABILITY, read_reliability
from segpipe.score.table import Row, read_scores
from segpipe.stages import evaluate
from segpipe.verify.chain import Chain, Kept
from segpipe.verify.looks import Link, Look, broken, differs

TABLES = (".csv", ".tsv")
SAMPLE = 5
"""Cases whose scores are measured again where not all are asked for."""
CLOSE, TINY = 1e-6, 1e-9
"""By how much, relative and absolute, a figure may move from one machine to another."""


def source_of(kept: Kept, data: Path | None) -> Path:
    """Return the folder to which the paths of a manifest are relative: where it was, or where it is said to be now."""
    was = Path(str(kept.receipt["settings"]["ingest"]["source"]["root"]))
    now = data or was
    return now.parent if now.suffix.lower() in TABLES else now


def sources_link(chain: Chain, data: Path | None) -> Link:
    """Every raw file is the one that was ingested."""
    looks: list[Look] = []
    notes: list[str] = []
    for kept in chain.of("ingest"):
        name = f"{kept.name}/{MANIFEST}"
        try:
            root, refs = source_of(kept, data), list(_references(kept.path))
        except (ArtifactError, OSError, ValueError, KeyError, TypeError) as error:
            looks.append(broken(name, f"cannot be read ({' '.join(str(error).split())})"))
            continue
        if not root.is_dir():
            notes.append("the data set's folder is not at hand: give it with --data")
            continue
        looks += [Look(ref.path, partial(_raw_fault, root, ref)) for ref in refs]
        if not (kept.path / DESCRIBED).is_file():
            notes.append("files that describe the data set were not hashed yet")
    return Link("raw files to manifest", looks, "; ".join(dict.fromkeys(notes)))


def _references(folder: Path) -> Iterator[FileRef]:
    for row in read_jsonl(folder / DESCRIBED) if (folder / DESCRIBED).is_file() else ():
        yield FileRef.model_validate(row)
    for row in read_jsonl(folder / MANIFEST):
        yield from Case.model_validate(row).files


def _raw_fault(root: Path, ref: FileRef) -> str:
    path = root / ref.path
    if not path.is_file():
        return "is missing in the data set's folder"
    return differs(file_sha256(path), ref.sha256, "the manifest")


def models_link(chain: Chain) -> Link:
    """Every model's weights are those it describes, and it was trained on the cases that it says."""
    looks: list[Look] = []
    for kept in chain.of("train"):
        model = f"{kept.name}/model/{MODEL}"
        looks += [
            Look(f"{kept.name}/model/{WEIGHTS}", partial(_weights_fault, kept)),
            Look(model, partial(_trained_on_fault, kept, chain)),
        ]
    looks += [Look(f"{kept.name}/{ENCODER}", partial(_encoder_fault, kept)) for kept in chain.of("pretrain")]
    return Link("weights and cases to models", looks)


def _weights_fault(kept: Kept) -> str:
    described = json.loads((kept.path / "model" / MODEL).read_text())
    return differs(file_sha256(kept.path / "model" / WEIGHTS), described["weights_sha256"], MODEL)


def _trained_on_fault(kept: Kept, chain: Chain) -> str:
    told = json.loads((kept.path / "model" / MODEL).read_text())["trained_on"]
    made_from, inputs = told["made_from"], kept.receipt.get("inputs")
    if made_from != inputs:
        return f"says that it was made from {made_from}, its receipt from {inputs}"
    if (ingest := chain.input_of(kept, "ingest")) is None:
        return ""  # told by the link between receipts
    cases = {case.id: case for case in Dataset.open(ingest.path, Path()).cases}
    ids = json.loads((kept.path / "cases.json").read_text())["training"]
    if missing := [case for case in ids if case not in cases]:
        return f"was trained on {missing[0]}, which is not in the manifest"
    return differs(content_hash([cases[case] for case in ids]), told["cases_sha256"], "the model")


def _encoder_fault(kept: Kept) -> str:
    described = json.loads((kept.path / ENCODER).read_text())
    faults = (differs(file_sha256(kept.path / name), sha256, name) for name, sha256 in described["sha256"].items())
    return next(filter(None, faults), "")


def scores_link(chain: Chain, data: Path | None, *, everything: bool) -> Link:
    """The scores in the table are those that the label maps have when they are measured again."""
    looks: list[Look] = []
    notes: list[str] = []
    for kept in chain.of("evaluate"):
        ingest, infer = chain.input_of(kept, "ingest"), chain.input_of(kept, "infer")
        if ingest is None or infer is None:
            continue  # told by the link between receipts
        if kept.receipt.get("version") != evaluate.STAGE.version:
            notes.append("made by another version of the evaluation: not measured again")
            continue
        name = f"{kept.name}/scores.csv"
        try:
            rows = read_scores(kept.path / "scores.csv")
            dataset = Dataset.open(ingest.path, source_of(ingest, data))
            config = evaluate.EvaluateConfig.model_validate(kept.receipt["settings"]["evaluate"])
        except (ArtifactError, ValueError, KeyError, TypeError) as error:
            looks.append(broken(name, " ".join(str(error).split())))
            continue
        if not dataset.root.is_dir():
            notes.append("the references are not at hand: give the data set's folder with --data")
            continue
        scored = list(dict.fromkeys(row.case for row in rows))
        for case in scored if everything else _spread(scored):
            own = [row for row in rows if row.case == case]
            looks.append(Look(name, partial(_score_fault, own, _job(case, dataset, infer, config))))
        if len(scored) > SAMPLE and not everything:
            notes.append(f"{SAMPLE} of {len(scored)} cases measured again; --scores measures all")
    return Link("label maps to scores", looks, "; ".join(dict.fromkeys(notes)))


def _spread(cases: Sequence[str]) -> list[str]:
    places = np.linspace(0, len(cases) - 1, min(SAMPLE, len(cases))).round().astype(int)
    return [cases[place] for place in dict.fromkeys(places.tolist())]


def _job(case: str, dataset: Dataset, infer: Kept, config: evaluate.EvaluateConfig) -> evaluate.ScoreJob | None:
    known = {one.id: one for one in dataset.cases}
    if case not in known:
        return None
    bins = read_reliability(infer.path / RELIABILITY)
    return evaluate.job_of(known[case], dataset, infer.path, config.metrics, bins)


def _score_fault(rows: Sequence[Row], job: evaluate.ScoreJob | None) -> str:
    case = rows[0].case
    if job is None:
        return f"holds {case}, which has no reference in the manifest"
    found = evaluate.score_files(job)
    if isinstance(found, str) or rows[0].failed:
        told = rows[0].failed
        return "" if told == isinstance(found, str) else f"{case}: {'was not' if told else 'cannot be'} scored, {found}"
    for row in rows:
        value, again = float(row.value), found.get((row.label, row.metric))
        same = again is not None and (
            (math.isnan(value) and math.isnan(again)) or math.isclose(value, again, rel_tol=CLOSE, abs_tol=TINY)
        )
        if not same:
            return f"{case}: {row.metric} of {row.label} is {value:g} in the table, {again} when it is measured again"
    return ""
