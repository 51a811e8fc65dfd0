"""segpipe score on folders of PNG masks: lengths in pixels unless their size is known, and every fault by its file."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from phantoms import Ran, segpipe
from PIL import Image

Labels = NDArray[np.uint8]
UM = 500
"""Size of a pixel of some files, in µm."""


def mask(value: int = 255, shift: int = 0) -> Labels:
    labels = np.zeros((24, 30), np.uint8)
    labels[6:16, 8 + shift : 20 + shift] = value
    return labels


def write(path: Path, labels: Labels, um: float | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels).save(path, **({"dpi": (25400 / um, 25400 / um)} if um else {}))


def cohort(root: Path, *, um: float | None = None, value: int = 255) -> None:
    """Write three masks, and predictions that are moved to the right by two pixels."""
    for number in range(3):
        write(root / "references" / f"case_{number}.png", mask(), um)
        write(root / "predictions" / f"case_{number}.png", mask(value, 2))


def score(root: Path, *more: str) -> Ran:
    places = (root / "predictions", root / "references", "-o", root / "out")
    return segpipe("score", *places, "run.executor.kind=serial", "evaluate.resamples=50", "report.pdf=false", *more)


def scores(root: Path) -> dict[tuple[str, str], str]:
    with (root / "out" / "scores.csv").open(newline="") as stream:
        return {(row["case"], row["metric"]): row["value"] for row in csv.DictReader(stream)}


def test_masks_of_a_made_up_cohort_agree_with_themselves(tmp_path: Path) -> None:
    assert segpipe("phantom", tmp_path, "--rank", "2", "--cases", "2").code == 0
    (tmp_path / "labels").rename(tmp_path / "references")
    (tmp_path / "predictions").symlink_to(tmp_path / "references")
    assert score(tmp_path).code == 0
    assert scores(tmp_path)["phantom_002", "dice"] == "1.0"
    assert scores(tmp_path)["phantom_002", "hd95_px"] == "0.0"


def test_lengths_are_in_pixels_where_no_file_tells_their_size(tmp_path: Path) -> None:
    cohort(tmp_path)
    ran = score(tmp_path)
    assert ran.code == 0
    assert ran.err.splitlines() == [
        "Labels are named foreground=255, the only value. --labels names them.",
        "No file tells the size of a pixel, so lengths are in pixels. ingest.pictures.pixel_size_um=… sets it.",
    ]
    told = scores(tmp_path)
    assert float(told["case_0", "dice"]) == pytest.approx(10 / 12)
    assert told["case_0", "hd100_px"] == "2.0"
    assert told["case_0", "vol_ref_px2"] == "120.0"
    assert "hd95_px" in ran.out
    page = (tmp_path / "out" / "report.html").read_text()
    assert "px²" in page
    assert "mm³" not in page


@pytest.mark.parametrize("where", ["references", "predictions", "settings"])
def test_the_size_of_a_pixel_is_told_by_files_or_settings(tmp_path: Path, where: str) -> None:
    cohort(tmp_path)
    if where != "settings":
        for number in range(3):
            write(tmp_path / where / f"case_{number}.png", mask(shift=2 * (where == "predictions")), UM)
    ran = score(tmp_path, *([f"ingest.pictures.pixel_size_um={UM}"] if where == "settings" else []))
    assert ran.code == 0, ran.err
    assert scores(tmp_path)["case_0", "hd100_mm"] == "1.0"
    assert "pixel" not in ran.err


def test_a_receipt_tells_the_size_of_a_pixel(tmp_path: Path) -> None:
    cohort(tmp_path)
    names = set()
    for size in (500, 700):
        assert score(tmp_path, f"ingest.pictures.pixel_size_um={size}").code == 0
        receipt = json.loads((tmp_path / "out" / "artifact.json").read_text())
        assert receipt["settings"]["reading"]["pixel"] == [size / 1000, size / 1000]
        names.add(receipt["fingerprint"])
    assert len(names) == 2


def test_single_faults_are_told_by_file_and_the_others_go_on(tmp_path: Path) -> None:
    cohort(tmp_path)
    write(tmp_path / "predictions" / "case_0.png", mask()[:-1])
    (tmp_path / "references" / "case_1.png").write_bytes(b"no picture")
    ran = score(tmp_path)
    assert ran.code == 3
    assert "set aside: case_0 case_0.png: lies on another grid than case_0.png ((30, 23) pixels" in ran.err
    assert "set aside: case_1 case_1.png: cannot be read" in ran.err


def test_where_no_file_can_be_read_each_says_why(tmp_path: Path) -> None:
    cohort(tmp_path)
    for number in range(3):
        (tmp_path / "predictions" / f"case_{number}.png").write_bytes(b"no picture")
    ran = score(tmp_path)
    assert ran.code == 2
    told = [line for line in ran.err.splitlines() if line.startswith("set aside: ")]
    assert [line.split()[3] for line in told] == [f"case_{number}.png:" for number in range(3)]
    assert all("cannot be read" in line for line in told)
    assert "background" not in ran.err
    assert "0 scored, 3 set aside" in ran.out


def test_where_no_file_has_a_partner_each_says_so(tmp_path: Path) -> None:
    write(tmp_path / "predictions" / "a.png", mask())
    write(tmp_path / "references" / "b.png", mask())
    ran = score(tmp_path)
    assert ran.code == 2
    assert "a.png: there is no reference of this name" in ran.err
    assert "b.png: there is no prediction of this name" in ran.err


def test_masks_that_were_smoothed_are_no_label_maps(tmp_path: Path) -> None:
    cohort(tmp_path)
    grey = np.tile(np.linspace(0, 255, 30).astype(np.uint8), (24, 1))
    write(tmp_path / "predictions" / "case_0.png", grey)
    assert "case_0.png: a mask of many grey values" in score(tmp_path).err
    assert "case_0.png: 28 values lie between" in score(tmp_path, "--labels", "cell=255").err


def test_one_structure_by_two_values_is_asked_about_and_not_scored_as_missed(tmp_path: Path) -> None:
    cohort(tmp_path, value=1)
    ran = score(tmp_path)
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert "the predictions hold 1 beside 0, the references 255" in line


def test_background_alone_says_also_what_could_not_be_read(tmp_path: Path) -> None:
    for folder in ("predictions", "references"):
        write(tmp_path / folder / "case_0.png", mask(0))
    (tmp_path / "predictions" / "case_1.png").write_bytes(b"no picture")
    write(tmp_path / "references" / "case_1.png", mask(0))
    ran = score(tmp_path)
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert "nothing but background" in line
    assert "1 pair(s) cannot be read: case_1.png: cannot be read" in line
