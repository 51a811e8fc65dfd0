"""Which file belongs to which, and what the labels are called."""

import json
from pathlib import Path

import pytest

from segpipe.core.errors import DataError
from segpipe.scoring.covariates import read_covariates
from segpipe.scoring.names import found_file, given_names, names_of_values
from segpipe.scoring.pairs import pair_up


def folders(root: Path, predictions: str, references: str) -> tuple[Path, Path]:
    """Make two folders of empty files."""
    made = []
    for name, files in (("predictions", predictions), ("references", references)):
        (root / name).mkdir()
        for file in files.split():
            (root / name / file).touch()
        made.append(root / name)
    return made[0], made[1]


def test_files_are_matched_by_name_whatever_their_suffix(tmp_path: Path) -> None:
    pairs, refused = pair_up(*folders(tmp_path, "a.nii.gz b.mha notes.txt ._a.nii.gz", "a.nrrd b.nii summary.json"))
    assert [(pair.case, pair.prediction.name, pair.reference.name) for pair in pairs] == [
        ("a", "a.nii.gz", "a.nrrd"),
        ("b", "b.mha", "b.nii"),
    ]
    assert refused == []


@pytest.mark.parametrize(
    ("predictions", "references"),
    [("a_0000.nii.gz", "a.nii.gz"), ("a.nii.gz", "a_0000.nii.gz"), ("a_0000.nii", "a_0000.nii")],
)
def test_the_channel_that_nnunet_writes_makes_no_other_name(tmp_path: Path, predictions: str, references: str) -> None:
    pairs, refused = pair_up(*folders(tmp_path, predictions, references))
    assert (len(pairs), refused) == (1, [])


def test_an_exact_name_comes_first(tmp_path: Path) -> None:
    pairs, refused = pair_up(*folders(tmp_path, "a.nii a_0000.nii", "a.nii a_0000.nii"))
    assert [pair.prediction.name == pair.reference.name for pair in pairs] == [True, True]
    assert not refused


def test_what_has_no_partner_is_told_of_once(tmp_path: Path) -> None:
    pairs, refused = pair_up(*folders(tmp_path, "a.nii b.nii c.nii c.nii.gz", "a.nii c.nii d.nii"))
    assert [pair.case for pair in pairs] == ["a"]
    assert {refusal.case: refusal.reason for refusal in refused} == {
        "b": "b.nii: there is no reference of this name.",
        "c": "c.nii, c.nii.gz: files of one name. Keep one of them.",
        "d": "d.nii: there is no prediction of this name.",
    }


def test_names_that_would_become_one_are_refused(tmp_path: Path) -> None:
    made = folders(tmp_path, "", "")
    for folder in made:
        for name in ("a b.nii", "a+b.nii"):
            (folder / name).touch()
    pairs, refused = pair_up(*made)
    assert not pairs
    assert "would be one case, 'a_b'" in refused[0].reason


def test_folders_without_label_maps_are_refused(tmp_path: Path) -> None:
    predictions, references = folders(tmp_path, "a.nii", "readme.txt")
    with pytest.raises(DataError, match="references: holds no label maps"):
        pair_up(predictions, references)
    with pytest.raises(DataError, match="nowhere: there is no such folder"):
        pair_up(tmp_path / "nowhere", references)


def test_names_can_be_said_in_four_ways(tmp_path: Path) -> None:
    (tmp_path / "names.yaml").write_text("liver: 1\ntumour: 2\nignore: 255\n")
    (tmp_path / "under.yml").write_text("labels: {liver: 1, tumour: 2}\n")
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "liver": 1, "tumour": 2}}))
    for said in ("liver=1, tumour = 2", "names.yaml", "under.yml", "dataset.json"):
        labels = given_names(said if "=" in said else str(tmp_path / said))
        assert labels.groups() == {"liver": (1,), "tumour": (2,)}
    assert given_names(str(tmp_path / "names.yaml")).ignore == 255


def test_regions_of_nnunet_are_structures(tmp_path: Path) -> None:
    described = {"labels": {"background": 0, "whole": [1, 2], "core": [2]}, "regions_class_order": [1, 2]}
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    assert given_names(str(tmp_path / "dataset.json")).groups() == {"whole": (1, 2), "core": (2,)}


@pytest.mark.parametrize(
    "said", ["liver", "liver=", "liver=one", "a=1,b=1", "mean=1", "nowhere.yaml", "nowhere.json", "a=0"]
)
def test_names_that_make_no_sense_are_one_line(said: str) -> None:
    with pytest.raises(DataError) as caught:
        given_names(said)
    assert "\n" not in str(caught.value)
    assert said in str(caught.value)


def test_without_names_values_are_names() -> None:
    assert names_of_values([0, 3, 1]).groups() == {"1": (1,), "3": (3,)}
    with pytest.raises(DataError, match="nothing but background"):
        names_of_values([0])


@pytest.mark.parametrize("place", ["references/dataset.json", "dataset.json", "predictions/dataset.json"])
def test_a_description_at_hand_is_found(tmp_path: Path, place: str) -> None:
    predictions, references = folders(tmp_path, "", "")
    assert found_file(predictions, references) is None
    (tmp_path / place).touch()
    assert found_file(predictions, references) == tmp_path / place


def test_a_table_tells_subjects_and_everything_else(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("case;subject;site;age\na;s1;north;50\nb;s1;;\nz;s9;south;1\n")
    told = read_covariates(table, {"a", "b", "c"})
    assert told.subjects == {"a": "s1", "b": "s1"}
    assert told.others == {"a": {"site": "north", "age": "50"}, "b": {}}
    assert told.remarks == ("table.csv: no case is named 'z'.", "table.csv: has no row of case 'c'.")


@pytest.mark.parametrize(
    ("text", "said"),
    [("id,site\na,b\n", "no column 'case'"), ("case\na\na\n", "line 3 names case 'a' again"), ("case\n", "empty")],
)
def test_a_table_that_cannot_be_used_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    table = tmp_path / "table.csv"
    table.write_text(text)
    with pytest.raises(DataError, match=said):
        read_covariates(table, {"a"})
