"""2D pictures through the command line: layouts, bad input in one line each, and the whole way to a report."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from phantoms import QUIET, Ran, made, prepare, segpipe, summary
from PIL import Image

from segpipe.dataset.manifest import Dataset
from segpipe.dataset.phantom import PhantomConfig
from segpipe.dataset.phantom_pictures import CELL, make_picture, write_pictures
from segpipe.dataset.plan import Plan

BAD = "sick"


def save(path: Path, array: NDArray[Any], **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **how)
    return path


def pair(index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return image and mask (rows, columns), small ones."""
    image, label = make_picture(index, 0)
    return np.ascontiguousarray(image.array[0].T[:48, :40]), np.ascontiguousarray(label.array[0].T[:48, :40])


def image_of(root: Path) -> Path:
    return root / "images" / f"{BAD}.png"


def mask_of(root: Path) -> Path:
    return root / "labels" / f"{BAD}.png"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Folders of four good pairs and one that waits to be spoiled."""
    root = tmp_path / "data"
    for index, name in enumerate(("one", "two", "three", "four", BAD), start=1):
        image, label = pair(index)
        save(root / "images" / f"{name}.png", image)
        save(root / "labels" / f"{name}.png", label)
    return root


def manifest(out: Path, data: Path) -> Dataset:
    return Dataset.open(made(out, "ingest"), data)


def plan_of(out: Path) -> Plan:
    return Plan.model_validate_json((out / "latest/plan.json").read_text())


@dataclass(frozen=True)
class Fault:
    """Something wrong with a pair, and the words of the line that tells of it."""

    spoil: Callable[[Path], object]
    words: tuple[str, ...]


def with_alpha(root: Path) -> None:
    image, _ = pair(5)
    save(image_of(root), np.dstack([image, image, image, image]))


def smoothed(root: Path) -> None:
    _, label = pair(5)
    small = Image.fromarray(label).resize((20, 24), Image.Resampling.BILINEAR)
    small.resize((40, 48), Image.Resampling.BILINEAR).save(mask_of(root))


def as_jpeg(root: Path) -> None:
    _, label = pair(5)
    save(mask_of(root).with_suffix(".jpg"), label, quality=70)
    mask_of(root).unlink()


def in_colour(root: Path) -> None:
    _, label = pair(5)
    save(mask_of(root), np.dstack([label, label // 2, 255 - label]))


def cut_short(root: Path) -> None:
    image_of(root).write_bytes(image_of(root).read_bytes()[:700])


def animated(root: Path) -> None:
    image, _ = pair(5)
    save(image_of(root), image, save_all=True, append_images=[Image.fromarray(255 - image)])


def in_pages(root: Path) -> None:
    _, label = pair(5)
    tifffile.imwrite(mask_of(root).with_suffix(".tif"), np.stack([label, label, label]), photometric="minisblack")
    mask_of(root).unlink()


def of_another_size(root: Path) -> None:
    _, label = pair(5)
    save(mask_of(root), label[:-3])


def coloured_image(root: Path) -> None:
    image, _ = pair(5)
    save(image_of(root), np.dstack([image, image // 2, 255 - image]))


def sixteen_bits_with_alpha(root: Path) -> None:
    import struct
    import zlib

    lines = b"".join(b"\0" + bytes(range(40)) * 8 for _ in range(48))
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", 40, 48, 16, 6, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines)),
        (b"IEND", b""),
    )
    chunks = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts]
    image_of(root).write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


IMAGE, LABEL = f"{BAD} images/{BAD}.png: ", f"{BAD} labels/{BAD}.png: "
FAULTS = {
    "image without mask": Fault(lambda root: mask_of(root).unlink(), (IMAGE, "has no label file", "Add one")),
    "mask without image": Fault(
        lambda root: image_of(root).unlink(), (f"{BAD} {BAD}.png: ", "a label map without an image", "Add the image")
    ),
    "varying alpha": Fault(with_alpha, (IMAGE, "transparency (alpha) varies", "without alpha")),
    "16 bits with alpha": Fault(
        sixteen_bits_with_alpha, (IMAGE, "16 bits with transparency (alpha)", "Save it as grey")
    ),
    "anti-aliased mask": Fault(smoothed, (LABEL, "values lie between the label values 0 and 255", "without smoothing")),
    "JPEG mask": Fault(as_jpeg, (f"labels/{BAD}.jpg", "values lie between", "as PNG")),
    "RGB mask": Fault(in_colour, (LABEL, "a label map in colour (3 channels)", "palette PNG")),
    "truncated PNG": Fault(cut_short, (IMAGE, "truncated", "fetch it again")),
    "animated PNG": Fault(animated, (IMAGE, "is animated (2 frames)", "Save one frame")),
    "stack of masks": Fault(in_pages, (f"{BAD}.tif: holds 3 pages where one is expected", "its own file")),
    "other size": Fault(of_another_size, (LABEL, "is 40x45 pixels, its image 40x48", "at one size")),
    "colour among grey": Fault(
        coloured_image, (IMAGE, "3 channel(s), but the data set declares 1", "correct the list")
    ),
}


@pytest.mark.parametrize("fault", list(FAULTS.values()), ids=list(FAULTS))
def test_a_bad_pair_costs_one_line_and_no_other_pair(fault: Fault, data: Path, tmp_path: Path) -> None:
    fault.spoil(data)
    ran = segpipe("run", "default", "--data", data, "-o", tmp_path / "out", "--pipeline", "prepare", *QUIET)
    assert ran.code == 3, ran.err
    (line,) = ran.aside
    for words in fault.words:
        assert words in line
    assert "Traceback" not in ran.out + ran.err
    assert summary(tmp_path / "out", "ingest")["cases"] == 4


def test_masks_that_were_all_smoothed_stop_with_one_line(data: Path, tmp_path: Path) -> None:
    for path in (data / "labels").iterdir():
        Image.open(path).resize((40, 48), Image.Resampling.BICUBIC, box=(0, 0, 30, 30)).save(path)
    ran = prepare(data, tmp_path / "out")
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert "a mask of many grey values, as anti-aliasing or JPEG leave them" in line


def test_masks_of_one_value_need_no_config_and_the_line_that_would_name_it_is_told(data: Path, tmp_path: Path) -> None:
    ran = prepare(data, tmp_path / "out")
    assert ran.code == 0
    assert "labels: {foreground: 255}" in ran.out
    assert "lengths are in pixels" in ran.out
    again = prepare(data, tmp_path / "named", "ingest.source.labels={cell: 255}")
    assert again.code == 0
    assert plan_of(tmp_path / "named").labels.groups() == {"cell": (255,)}


def test_palette_masks_of_several_values_ask_for_names_with_the_line_to_add(data: Path, tmp_path: Path) -> None:
    for path in (data / "labels").iterdir():
        indices = np.asarray(Image.open(path)) // 255 + (np.arange(40) > 20).astype(np.uint8)
        image = Image.new("P", (40, 48))
        image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
        image.frombytes(indices.tobytes())
        image.save(path)
    ran = prepare(data, tmp_path / "out")
    assert ran.code == 2
    assert "labels: {name1: 1, name2: 2}" in ran.err
    assert prepare(data, tmp_path / "out", "ingest.source.labels={a: 1, b: 2}").code == 0


def test_train_and_test_folders_are_told_apart_also_where_names_clash(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for number in range(6):
        image, label = pair(number + 1)
        save(root / "train/image" / f"{number}.png", image)
        save(root / "train/label" / f"{number}_mask.png", label)
        save(root / "test/image" / f"{number}.png", 255 - image)
    assert prepare(root, tmp_path / "out").code == 0
    told = summary(tmp_path / "out", "ingest")
    assert (told["develop"], told["test"], told["unlabelled"]) == (5, 1, 6)
    assert {case.id for case in manifest(tmp_path / "out", root).part("unlabelled")} == {f"test_{n}" for n in range(6)}
    for number in range(2):
        save(root / "test/masks" / f"{number}.png", pair(number + 1)[1])
    assert prepare(root, tmp_path / "out").code == 0
    told = summary(tmp_path / "out", "ingest")
    assert (told["develop"], told["test"], told["unlabelled"]) == (6, 2, 4)


class TestStacks:
    @pytest.fixture
    def stack(self, tmp_path: Path) -> Path:
        root = tmp_path / "data"
        images, labels = zip(*(pair(number) for number in range(1, 7)), strict=True)
        for part, pages in (("images", images), ("labels", labels)):
            (root / part).mkdir(parents=True)
            tifffile.imwrite(root / part / "volume.tif", np.stack(pages), photometric="minisblack")
        return root

    def test_pages_of_one_specimen_stay_together_unless_asked(self, stack: Path, tmp_path: Path) -> None:
        ran = prepare(stack, tmp_path / "out")
        assert ran.code == 2
        (line,) = ran.err.splitlines()
        assert "ingest.pictures.page_is_subject=true" in line
        assert prepare(stack, tmp_path / "out", "ingest.pictures.page_is_subject=true").code == 0
        told = summary(tmp_path / "out", "ingest")
        assert (told["cases"], told["subjects"]) == (6, 6)
        cases = manifest(tmp_path / "out", stack).cases
        assert [case.id for case in cases] == [f"volume_page0{n}" for n in range(1, 7)]

    def test_each_page_is_its_own_image(self, stack: Path, tmp_path: Path) -> None:
        from segpipe.dataset.load import load_image, load_labels

        prepare(stack, tmp_path / "out", "ingest.pictures.page_is_subject=true")
        found = manifest(tmp_path / "out", stack)
        for number, case in enumerate(found.cases, start=1):
            image, label = pair(number)
            assert np.array_equal(load_image(found.files(case)).array[0].T, image)
            assert np.array_equal(load_labels(found.files(case)).array[0].T, label)

    def test_of_different_length_are_set_aside(self, stack: Path, tmp_path: Path) -> None:
        labels = np.stack([pair(number)[1] for number in range(1, 5)])
        tifffile.imwrite(stack / "labels/volume.tif", labels, photometric="minisblack")
        ran = prepare(stack, tmp_path / "out")
        assert ran.code == 2
        assert "volume.tif: has 4 page(s), but volume.tif has 6" in ran.err


def test_colour_is_three_channels_and_grey_stored_as_colour_is_one(data: Path, tmp_path: Path) -> None:
    for path in (data / "images").iterdir():
        save(path, np.dstack([np.asarray(Image.open(path))] * 3))
    assert prepare(data, tmp_path / "grey").code == 0
    assert len(plan_of(tmp_path / "grey").channels) == 1
    for path in (data / "images").iterdir():
        image = np.asarray(Image.open(path)).copy()
        image[..., 2] //= 2
        save(path, image)
    assert prepare(data, tmp_path / "colour").code == 0
    assert [channel.name for channel in plan_of(tmp_path / "colour").channels] == ["red", "green", "blue"]


def test_the_size_of_a_pixel_comes_from_the_files_or_the_config(data: Path, tmp_path: Path) -> None:
    for path in (data / "images").iterdir():
        save(path, np.asarray(Image.open(path)), dpi=(25.4 / 0.00065, 25.4 / 0.00065))
    assert prepare(data, tmp_path / "told").code == 0
    assert (plan_of(tmp_path / "told").spacing, plan_of(tmp_path / "told").reading.unit) == ((0.65, 0.65), "um")
    assert prepare(data, tmp_path / "set", "ingest.pictures.pixel_size_um=[143,150]").code == 0
    assert (plan_of(tmp_path / "set").spacing, plan_of(tmp_path / "set").reading.unit) == ((0.143, 0.15), "mm")
    assert prepare(data, tmp_path / "none", "ingest.pictures.pixel_size_um=unknown").code == 0
    assert plan_of(tmp_path / "none").reading.unit == "px"
    save(image_of(data), pair(5)[0])
    (line,) = prepare(data, tmp_path / "one").aside
    assert f"{BAD}.png: tells no size of a pixel" in line


def test_pictures_of_several_sizes_are_planned_together(data: Path, tmp_path: Path) -> None:
    for path in (image_of(data), mask_of(data)):
        save(path, np.asarray(Image.open(path))[:30, :37])
    ran = prepare(data, tmp_path / "out")
    assert ran.code == 0
    assert "37x30 to 40x48 (2 sizes)" in ran.out
    assert plan_of(tmp_path / "out").median_shape == (40, 48)


def test_previews_beside_scans_are_no_cases(tmp_path: Path) -> None:
    from phantoms import scans, write_folder

    root = write_folder(tmp_path / "data", scans(4))
    save(root / "images/preview.png", pair(1)[0])
    assert prepare(root, tmp_path / "out", "ingest.source.labels={a: 1, b: 2}").code == 0
    assert summary(tmp_path / "out", "ingest")["cases"] == 4


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Ran]:
    root = tmp_path_factory.mktemp("pictures")
    write_pictures(root / "data", PhantomConfig(cases=6))
    small = ("model.features=4", "train.fit.steps=8", "train.fit.validate_every=4", "preprocess.weight.kind=border")
    size = ("preprocess.plan.patch=[64,64]", "preprocess.plan.batch=2", "evaluate.resamples=100")
    ran = segpipe("run", "default", "--data", root / "data", "-o", root / "out", *QUIET, *small, *size)
    return root / "data", root / "out", ran


@pytest.mark.slow
class TestTheWholeWay:
    def test_ends_with_predictions_in_the_form_of_the_input(self, finished: tuple[Path, Path, Ran]) -> None:
        data, out, ran = finished
        assert ran.code == 0, ran.err
        drawn = sorted((out / "latest/predictions").iterdir())
        assert drawn
        for path in drawn:
            assert path.suffix == ".png"
            with Image.open(path) as label, Image.open(data / "images" / path.name) as image:
                assert label.size == image.size
                assert set(np.unique(np.asarray(label))) <= {0, CELL}
        names = {row.split(",")[2] for row in (out / "latest/scores.csv").read_text().splitlines()[1:]}
        assert {"hd95_px", "nsd_1px", "vol_ref_px2"} <= names
        assert not {name for name in names if "mm" in name}
        assert json.loads((out / "latest/summary.json").read_text())["unit"] == "px"

    def test_shows_panels_in_the_report(self, finished: tuple[Path, Path, Ran]) -> None:
        page = (finished[1] / "latest/report.html").read_text()
        for panel in ("Image", "Reference", "Weight map", "Prediction", "Errors"):
            assert f'alt="{panel} of phantom_' in page
        assert "NSD at 1 px" in page
        assert "px²" in page
        text = page.split("<main>")[1].split("<script>")[0]
        assert not [words for words in (" mm ", "mm²", "{material", "voxels") if words in text]

    def test_predicts_folders_and_stacks(self, finished: tuple[Path, Path, Ran], tmp_path: Path) -> None:
        data, out, _ = finished
        stored = next((out / "latest/predictions").iterdir())
        new = tmp_path / "new"
        new.mkdir()
        shutil.copy(data / "images" / stored.name, new / stored.name)
        page = np.asarray(Image.open(data / "images" / stored.name))
        tifffile.imwrite(new / "stack.tif", np.stack([page, 255 - page]), photometric="minisblack")
        (new / "bad.jpg").write_bytes(b"\xff\xd8\xff")
        ran = segpipe("predict", out / "latest/model", new, "-o", tmp_path / "maps", "--device", "cpu")
        assert ran.code == 3
        assert "bad.jpg: cannot be read" in ran.err
        assert {path.name for path in (tmp_path / "maps").iterdir()} == {
            "checks.csv",
            stored.name,
            "stack_page01.tif",
            "stack_page02.tif",
        }
        for path in (tmp_path / "maps" / stored.name, tmp_path / "maps/stack_page01.tif"):
            assert np.array_equal(np.asarray(Image.open(path)), np.asarray(Image.open(stored)))

    def test_never_writes_over_its_input(self, finished: tuple[Path, Path, Ran], tmp_path: Path) -> None:
        data, out, _ = finished
        shutil.copytree(data / "images", tmp_path / "images")
        ran = segpipe("predict", out / "latest/model", tmp_path / "images", "-o", tmp_path / "images")
        assert ran.code == 2
        assert "would take the place of the scan" in ran.err

    def test_says_what_a_scan_of_another_rank_is(self, finished: tuple[Path, Path, Ran], tmp_path: Path) -> None:
        from phantoms import scans, write_folder

        root = write_folder(tmp_path / "data", scans(1))
        ran = segpipe("predict", finished[1] / "latest/model", root / "images", "-o", tmp_path / "maps")
        assert ran.code == 2
        assert "is 3D; the model was trained on 2D images" in ran.err


def test_the_phantom_command_writes_the_same_pictures_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert segpipe("phantom", tmp_path / name, "--rank", 2, "--cases", 2).code == 0
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.png"))
    assert len(files) == 4
    assert all((tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes() for path in files)
