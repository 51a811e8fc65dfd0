"""OUT/latest: what people look for, whatever the number of results."""

from pathlib import Path

import pytest

from segpipe.core.stage import Artifact, Inputs
from segpipe.latest import keepsakes, publish
from segpipe.nets.checkpoint import model_folders


def trained(store: Path, *names: str) -> Inputs:
    found = {}
    for name in names:
        folder = store / "train" / (name or "only")
        (folder / "model").mkdir(parents=True, exist_ok=True)
        (folder / "model" / "model.json").write_text(name)
        found[f"train@{name}" if name else "train"] = Artifact("train", name, folder, {})
    return Inputs(found)


def test_a_single_model_is_linked_by_itself(tmp_path: Path) -> None:
    latest = publish(tmp_path, trained(tmp_path, ""))
    assert (latest / "model" / "model.json").is_file()


def test_several_models_lie_in_one_folder_by_seed_and_fold(tmp_path: Path) -> None:
    latest = publish(tmp_path, trained(tmp_path, "seed 0 fold 0", "seed 0 fold 1"))
    assert sorted(path.name for path in (latest / "model").iterdir()) == ["seed0-fold0", "seed0-fold1"]
    assert (latest / "model" / "seed0-fold1" / "model.json").read_text() == "seed 0 fold 1"


def test_one_gives_way_to_several_and_back_without_touching_what_was_made(tmp_path: Path) -> None:
    publish(tmp_path, trained(tmp_path, ""))
    publish(tmp_path, trained(tmp_path, "fold 0", "fold 1"))
    latest = publish(tmp_path, trained(tmp_path, ""))
    assert (latest / "model" / "model.json").read_text() == ""
    assert (tmp_path / "train" / "fold 1" / "model" / "model.json").is_file()


def with_usual(made: Inputs, store: Path) -> Inputs:
    folder = store / "qc" / "only"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "usual_scans.json").write_text("usual")
    return Inputs({**made.artifacts, "qc": Artifact("qc", "only", folder, {})})


@pytest.mark.parametrize("names", [("",), ("fold 0", "fold 1")])
def test_what_is_usual_lies_with_the_model_and_not_in_what_was_made(tmp_path: Path, names: tuple[str, ...]) -> None:
    latest = publish(tmp_path, with_usual(trained(tmp_path, *names), tmp_path))
    assert (latest / "model" / "usual_scans.json").read_text() == "usual"
    assert len(model_folders(latest / "model")) == len(names)
    assert not list(tmp_path.glob("train/*/model/usual_scans.json"))
    publish(tmp_path, trained(tmp_path, *names))
    assert not (latest / "model" / "usual_scans.json").exists()
    assert (tmp_path / "qc" / "only" / "usual_scans.json").is_file()


def test_what_is_not_there_is_not_shown(tmp_path: Path) -> None:
    publish(tmp_path, trained(tmp_path, ""))
    assert not list(publish(tmp_path, Inputs({})).iterdir())


def test_a_tracker_keeps_every_model_in_a_folder_of_its_own(tmp_path: Path) -> None:
    kept = keepsakes(trained(tmp_path, "fold 0", "fold 1"))
    assert set(kept) == {"train/fold0", "train/fold1"}


def test_the_report_lies_there_as_a_page_and_where_it_was_printed_on_paper(tmp_path: Path) -> None:
    folder = tmp_path / "report" / "only"
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("page")
    made = Inputs({"report": Artifact("report", "only", folder, {})})
    assert not (publish(tmp_path, made) / "report.pdf").exists()
    (folder / "report.pdf").write_text("paper")
    assert (publish(tmp_path, made) / "report.pdf").read_text() == "paper"
