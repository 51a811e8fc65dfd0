"""A flipped byte anywhere between raw file and report is found and named; a result that nobody touched is fine."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from phantoms import segpipe
from report_artifacts import Made, made_models

from segpipe.core.contents import SUMS, read_sums, sums_of, write_sums
from segpipe.core.errors import ArtifactError
from segpipe.core.store import RECEIPT, read_receipt
from segpipe.latest import LATEST
from segpipe.verify.verify import Fault, Verdict, verify


@contextmanager
def silent(what: str, total: int) -> Iterator[Callable[[int], None]]:
    yield lambda done: None


def faults(verdicts: list[Verdict]) -> list[Fault]:
    return [fault for verdict in verdicts for fault in verdict.faults]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """All stages with their report, gathered in ``latest``."""
    return made_models(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def copy(finished: Made, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the store and of the raw data, to be damaged."""
    for name in ("store", "data"):
        shutil.copytree(finished.root / name, tmp_path / name, symlinks=True)
    return tmp_path / "store", tmp_path / "data"


def flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def test_a_result_that_nobody_touched_is_fine_on_every_link(finished: Made) -> None:
    verdicts = verify(finished.root / "store", silent, scores=True)
    assert [str(fault) for fault in faults(verdicts)] == []
    assert all(verdict.looked for verdict in verdicts), verdicts
    assert len(verdicts) == 7


def test_one_flipped_byte_in_any_file_is_found_and_named(copy: tuple[Path, Path]) -> None:
    """Of every kind of file one or more, in turn: raw ones that were read, and of the store all but prepared arrays."""
    store, data = copy
    raw = [
        path for path in sorted(data.rglob("*")) if path.is_file() and "case_006" not in path.name
    ]  # which was set aside
    kept = [path for path in sorted(store.rglob("*")) if path.is_file() and LATEST not in path.parts]
    prepared = [path for path in kept if "cases" in path.parts]
    assert len(raw) == 13
    assert len(prepared) > 20
    rng = random.Random(6)
    others = [path for path in kept if path not in prepared]
    assert len(others) > 20
    for path in [*rng.sample(raw, 5), *rng.sample(prepared, 3), *others]:
        before = path.read_bytes()
        if not before:
            continue
        flip(path, rng)
        found = faults(verify(store, silent, data=data))
        path.write_bytes(before)
        name = path.relative_to(data if path.is_relative_to(data) else store).as_posix()
        assert name in {fault.file for fault in found}, (name, [str(fault) for fault in found])
    assert not faults(verify(store, silent, data=data))


def test_a_wrong_score_is_found_even_where_every_hash_was_made_to_fit(copy: tuple[Path, Path]) -> None:
    store, data = copy
    (folder,) = (path.parent for path in store.glob(f"evaluate/*/{RECEIPT}"))
    table = folder / "scores.csv"
    rows = table.read_text().splitlines()
    case, label, metric, value, *_ = next(row for row in rows if ",dice," in row).split(",")
    table.write_text("\n".join(rows).replace(f"{metric},{value}", f"{metric},{float(value) - 0.01}", 1) + "\n")
    names = list(read_sums(folder))
    receipt = read_receipt(folder) | {"contents": write_sums(folder, sums_of(folder, names))}
    del receipt["seal"]
    (folder / RECEIPT).write_text(json.dumps(receipt))
    found = faults(verify(store, silent, data=data, scores=True))
    assert any(fault.link == "label maps to scores" and f"{case}: dice of {label}" in fault.what for fault in found)
    assert any(fault.link == "report to files" for fault in found)
    assert any("was made from another evaluate/" in fault.what for fault in found)


def test_what_is_missing_added_or_leads_astray_is_named(copy: tuple[Path, Path]) -> None:
    store, data = copy
    (infer,) = (path.parent for path in store.glob(f"infer/*/{RECEIPT}"))
    prediction = sorted((infer / "predictions").iterdir())[0]
    prediction.rename(prediction.with_name("other.nii.gz"))
    (infer / "predictions" / ".litter").write_text("of a file manager")
    (store / LATEST / "scores.csv").unlink()
    (store / LATEST / "scores.csv").symlink_to("../nowhere.csv")
    (data / "imagesTr" / "case_000.nii.gz").unlink()
    said = {(fault.file.rpartition("/")[2], fault.what) for fault in faults(verify(store, silent, data=data))}
    assert (prediction.name, "is missing") in said
    assert ("other.nii.gz", "was added after the stage was done") in said
    assert ("scores.csv", "leads nowhere. Run again to mend it") in said
    assert ("case_000.nii.gz", "is missing in the data set's folder") in said
    assert not any(".litter" in name for name, _ in said)


def test_an_input_that_is_gone_or_was_made_anew_is_a_broken_link(copy: tuple[Path, Path]) -> None:
    store, data = copy
    (train,) = (path.parent for path in store.glob(f"train/*/{RECEIPT}"))
    (train / "history.jsonl").write_text("another training\n")
    receipt = read_receipt(train) | {"contents": write_sums(train, sums_of(train, list(read_sums(train))))}
    del receipt["seal"]
    (train / RECEIPT).write_text(json.dumps(receipt))
    assert any("was made from another train/" in fault.what for fault in faults(verify(store, silent, data=data)))
    shutil.rmtree(train)
    assert any("which is not there" in fault.what for fault in faults(verify(store, silent, data=data)))


def test_folders_made_before_hashes_were_kept_are_told_of_and_are_no_error(copy: tuple[Path, Path]) -> None:
    store, data = copy
    for path in store.glob(f"*/*/{RECEIPT}"):
        receipt = json.loads(path.read_text())
        for key in ("contents", "inputs_contents", "seal"):
            del receipt[key]
        path.write_text(json.dumps(receipt))
        (path.parent / SUMS).unlink()
    for page in store.glob("report/*/report.html"):
        page.write_text(page.read_text().replace("data-file=", "data-before="))
    verdicts = verify(store, silent, data=data)
    assert not faults(verdicts)
    assert any("made before hashes were kept" in verdict.note for verdict in verdicts)


def test_data_that_are_not_at_hand_are_told_of(copy: tuple[Path, Path], tmp_path: Path) -> None:
    store, _ = copy
    verdicts = {verdict.link: verdict for verdict in verify(store, silent, data=tmp_path / "gone")}
    assert not faults(list(verdicts.values()))
    assert "give it with --data" in verdicts["raw files to manifest"].note
    assert verdicts["label maps to scores"].looked == 0


def test_only_what_latest_rests_on_is_looked_at_unless_all_is_asked_for(copy: tuple[Path, Path]) -> None:
    store, data = copy
    (report,) = (path.parent for path in store.glob(f"report/*/{RECEIPT}"))
    shutil.copytree(report, report.with_name("f" * 16))
    assert "1; --all" in verify(store, silent, data=data)[-1].note
    found = faults(verify(store, silent, data=data, everything=True))
    assert ["f" * 16 in fault.file and "lies in another folder" in fault.what for fault in found] == [True]


def test_the_command_names_the_file_and_tells_by_its_exit_code(copy: tuple[Path, Path], tmp_path: Path) -> None:
    store, data = copy
    fine = segpipe("verify", store, "--data", data)
    assert (fine.code, fine.out.splitlines()[-1]) == (0, "Nothing is broken.")
    (model,) = store.glob("train/*/model/weights.safetensors")
    flip(model, random.Random(1))
    bad = segpipe("verify", store, "--data", data)
    assert bad.code == 3
    assert all("weights.safetensors: " in line for line in bad.err.splitlines())
    assert {"files to receipts", "weights and cases to models", "report to files"} == {
        line.rpartition("(")[2].rstrip(")") for line in bad.err.splitlines()
    }
    nothing = segpipe("verify", tmp_path / "empty")
    assert nothing.code == 2
    assert "holds no finished result" in nothing.err


def test_nothing_finished_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="holds no finished result"):
        verify(tmp_path, silent)


def test_copies_stand_for_links_where_links_are_impossible(copy: tuple[Path, Path]) -> None:
    store, data = copy
    table = store / LATEST / "scores.csv"
    content = table.read_bytes()
    table.unlink()
    table.write_bytes(content)
    assert not faults(verify(store, silent, data=data))
    table.write_bytes(content + b"\n")
    assert ["is no copy" in fault.what for fault in faults(verify(store, silent, data=data))] == [True]
