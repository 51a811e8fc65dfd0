"""2D pictures: what is read from each form, what is refused, and what is written back."""

import struct
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from segpipe.core.errors import DataError
from segpipe.imaging.files import is_flat, read_labels, read_volume, write_volume, written_suffix
from segpipe.imaging.geometry import Geometry
from segpipe.imaging.look import physical
from segpipe.imaging.pictures import look_at, read_mask, read_picture
from segpipe.imaging.reading import Reading, Unit
from segpipe.imaging.volume import Volume

ROWS, COLUMNS = 20, 31
PX = Reading(unit="px")


def grey(dtype: Any = np.uint8) -> NDArray[Any]:
    return np.random.default_rng(3).integers(0, 250, (ROWS, COLUMNS)).astype(dtype)


def colour() -> NDArray[np.uint8]:
    return np.random.default_rng(4).integers(0, 255, (ROWS, COLUMNS, 3), np.uint8)


def save(path: Path, array: NDArray[Any], **how: Any) -> Path:
    Image.fromarray(array).save(path, **how)
    return path


def palette(path: Path, indices: NDArray[np.uint8]) -> Path:
    image = Image.new("P", indices.shape[::-1])
    image.putpalette([0, 0, 0, 250, 10, 10, 10, 250, 10])
    image.frombytes(indices.tobytes())
    image.save(path)
    return path


def png_16(path: Path, channels: int, kind: int) -> Path:
    row = b"\0" + bytes(2 * channels * 4)
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, kind, 0, 0, 0)),
        (b"IDAT", zlib.compress(row * 4)),
        (b"IEND", b""),
    )
    chunks = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return path


class TestRead:
    @pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "A.TIFF"])
    def test_x_runs_to_the_right_and_y_down_the_page(self, name: str, tmp_path: Path) -> None:
        found = read_picture(save(tmp_path / name, grey()), PX)
        assert found.array.shape == (1, COLUMNS, ROWS)
        assert np.array_equal(found.array[0].T, grey())
        upright = found.canonical().array[0].T[::-1]  # as the report draws: the second axis upwards
        assert np.array_equal(upright, grey())

    @pytest.mark.parametrize("name", ["a.png", "a.tif"])
    def test_sixteen_bits_are_kept(self, name: str, tmp_path: Path) -> None:
        array = grey(np.uint16) * 200
        assert np.array_equal(read_picture(save(tmp_path / name, array), PX).array[0].T, array)

    def test_colour_is_three_channels(self, tmp_path: Path) -> None:
        found = read_picture(save(tmp_path / "a.png", colour()), PX).array
        assert np.array_equal(found, np.moveaxis(colour(), -1, 0).transpose(0, 2, 1))

    @pytest.mark.parametrize("name", ["a.png", "a.tif"])
    def test_transparency_that_is_the_same_all_over_is_dropped(self, name: str, tmp_path: Path) -> None:
        opaque = np.dstack([colour(), np.full((ROWS, COLUMNS), 255, np.uint8)])
        path = save(tmp_path / name, opaque)
        assert read_picture(path, PX).array.shape == (3, COLUMNS, ROWS)
        assert look_at(path).channels == 3

    def test_a_palette_is_looked_up_in_an_image_and_is_the_value_in_a_mask(self, tmp_path: Path) -> None:
        indices = (grey() % 3).astype(np.uint8)
        for name in ("a.png", "a.tif"):
            path = palette(tmp_path / name, indices)
            assert np.array_equal(read_mask(path).array[0].T, indices)
            assert read_picture(path, PX).array[0].max() == 250

    def test_one_bit_masks_are_0_and_1(self, tmp_path: Path) -> None:
        assert np.unique(read_mask(save(tmp_path / "a.png", grey() > 100)).array).tolist() == [0, 1]

    def test_grey_saved_as_colour_is_one_channel_where_that_is_known(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.png", np.dstack([grey()] * 3))
        assert len(read_picture(path, PX).array) == 3
        assert len(read_picture(path, PX.model_copy(update={"grey": True})).array) == 1
        assert len(read_mask(path).array) == 1

    def test_pages_of_a_stack_are_read_one_by_one(self, tmp_path: Path) -> None:
        stack = np.stack([grey(np.uint16) + page for page in range(3)])
        tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
        frames = [Image.fromarray((page % 256).astype(np.uint8)) for page in stack]
        frames[0].save(tmp_path / "b.tif", save_all=True, append_images=frames[1:], compression="tiff_lzw")
        for name, expected in (("a.tif", stack), ("b.tif", (stack % 256).astype(np.uint8))):
            assert look_at(tmp_path / name).pages == 3
            assert np.array_equal(read_picture(tmp_path / name, PX, 2).array[0].T, expected[2])

    def test_channels_of_ome_tiff_are_channels(self, tmp_path: Path) -> None:
        size = {"PhysicalSizeX": 0.65, "PhysicalSizeY": 0.7, "PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
        stack = np.stack([grey(np.uint16) + page for page in range(4)])
        tifffile.imwrite(
            tmp_path / "a.ome.tif", stack, ome=True, metadata={"axes": "CYX", **size}, photometric="minisblack"
        )
        found = read_picture(tmp_path / "a.ome.tif", Reading(unit="um"))
        assert found.array.shape == (4, COLUMNS, ROWS)
        assert found.geometry.spacing == (0.65, 0.7)

    def test_imagej_tells_its_unit(self, tmp_path: Path) -> None:
        metadata = {"unit": "um", "axes": "YX"}
        tifffile.imwrite(tmp_path / "a.tif", grey(), imagej=True, resolution=(1 / 0.65, 1 / 0.65), metadata=metadata)
        assert look_at(tmp_path / "a.tif").pixel_mm == pytest.approx((0.00065, 0.00065))


@pytest.mark.parametrize("dots", [72, 96, 300])
def test_dots_an_inch_for_a_printer_are_no_size_of_a_pixel(dots: int, tmp_path: Path) -> None:
    assert look_at(save(tmp_path / "a.png", grey(), dpi=(dots, dots))).pixel_mm is None
    assert look_at(save(tmp_path / "a.tif", grey(), dpi=(dots, dots))).pixel_mm is None
    assert physical(25.4 / dots, 25.4 / dots) is not None  # where a microscope's own header says so


REFUSED = {
    "varying alpha": (lambda p: save(p, np.dstack([colour(), grey()])), "a.png", "transparency (alpha) varies"),
    "16 bits with alpha": (
        lambda p: png_16(p, 4, 6),
        "a.png",
        "16 bits with transparency (alpha), of which 8 would be lost",
    ),
    "16 bits a colour": (lambda p: png_16(p, 3, 2), "a.png", "16 bits a colour"),
    "cmyk": (lambda p: Image.new("CMYK", (4, 4)).save(p), "a.jpg", "colour mode CMYK is not read"),
    "animated": (
        lambda p: Image.fromarray(grey()).save(p, save_all=True, append_images=[Image.fromarray(grey() // 2)]),
        "a.png",
        "is animated (2 frames)",
    ),
    "pages": (
        lambda p: tifffile.imwrite(p, np.stack([grey()] * 3), photometric="minisblack"),
        "a.tif",
        "3 pages where one",
    ),
    "web page": (lambda p: p.write_text("<html>"), "a.png", "cannot be read"),
    "no tiff": (lambda p: p.write_text("<html>"), "a.tif", "no whole TIFF file"),
    "cut png": (lambda p: p.write_bytes(save(p, grey()).read_bytes()[:300]), "a.png", "truncated"),
    "cut tiff": (lambda p: p.write_bytes(save(p, grey()).read_bytes()[:300]), "a.tif", "no whole TIFF file"),
    "empty": (lambda p: p.touch(), "a.png", "0 bytes"),
    "missing": (lambda p: None, "a.png", "no such file"),
    "no size": (lambda p: save(p, grey()), "a.png", "tells no size of a pixel"),
}


@pytest.mark.parametrize("fault", list(REFUSED))
def test_what_cannot_be_read_as_it_is_gives_one_line(fault: str, tmp_path: Path) -> None:
    spoil, name, said = REFUSED[fault]
    spoil(tmp_path / name)
    with pytest.raises(DataError) as caught:
        read_picture(tmp_path / name, Reading(unit="um") if fault == "no size" else PX)
    line = str(caught.value)
    assert said in line
    assert line.startswith(name)
    assert str(tmp_path) not in line
    assert "\n" not in line


def test_a_coloured_mask_and_one_of_another_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a label map in colour \(3 channels\)"):
        read_mask(save(tmp_path / "a.png", colour()))
    other = Geometry((COLUMNS, ROWS + 1), np.diag([1, -1, 1]))
    with pytest.raises(DataError, match=r"is 31x20 pixels, its image 31x21 \(width x height\)"):
        read_mask(save(tmp_path / "b.png", grey()), grid=other)


class TestWritten:
    @settings(deadline=None, max_examples=30)
    @given(
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
        st.sampled_from([("um", 0.65, 0.7), ("um", 0.004, 0.004), ("mm", 0.143, 0.15), ("px", 1.0, 1.0)]),
        st.sampled_from([".png", ".tif"]),
        st.sampled_from([np.uint8, np.uint16]),
    )
    def test_labels_come_back_on_the_same_grid(
        self, shape: tuple[int, int], lengths: tuple[Unit, float, float], suffix: str, dtype: Any
    ) -> None:
        unit, x, y = lengths
        values = (np.arange(shape[0] * shape[1]).reshape(shape) % 251).astype(dtype)
        volume = Volume(values[None], Geometry(shape, np.diag([x, -y, 1])))
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"a{suffix}"
            write_volume(path, volume, unit=unit)
            first = path.read_bytes()
            write_volume(path, volume, unit=unit)
            found = read_volume(path, Reading(unit=unit))
            assert path.read_bytes() == first
        assert found.array.dtype == dtype
        assert np.array_equal(found.array, volume.array)
        assert found.geometry.matches(volume.geometry, 1e-5)

    @pytest.mark.parametrize(
        ("image", "suffix"), [("a.JPG", ".png"), ("a.tiff", ".tif"), ("a.nii", ".nii.gz"), ("a.mha", ".nii.gz")]
    )
    def test_the_form_is_a_lossless_one_of_the_image(self, image: str, suffix: str) -> None:
        assert written_suffix(Path(image)) == suffix


class TestNiftiOf2d:
    @pytest.mark.parametrize("axes", [2, 3])
    def test_comes_back_with_the_axes_and_the_header_of_its_image(self, axes: int, tmp_path: Path) -> None:
        import nibabel as nib

        shape = (7, 5, 1)[:axes]
        affine = np.asarray([[-0.5, 0.1, 0, 3], [0.1, 0.5, 0, 4], [0, 0, 2, 9], [0, 0, 0, 1.0]])
        nib.save(nib.Nifti1Image(np.arange(35, dtype=np.uint8).reshape(shape), affine), tmp_path / "image.nii.gz")
        assert is_flat(tmp_path / "image.nii.gz")
        flat = Reading(flat=True)
        image = read_volume(tmp_path / "image.nii.gz", flat)
        assert image.geometry.shape == (7, 5)
        write_volume(tmp_path / "label.nii.gz", image, header_of=tmp_path / "image.nii.gz")
        stored = nib.load(tmp_path / "label.nii.gz")
        assert stored.shape == shape
        assert np.allclose(stored.affine, affine)
        again = read_labels(tmp_path / "label.nii.gz", flat)
        assert np.array_equal(again.array, image.array)
        assert again.geometry.matches(image.geometry)

    def test_of_a_sagittal_slice_keeps_its_spacing(self, tmp_path: Path) -> None:
        import nibabel as nib

        affine = np.asarray([[0, 0, 2, 0], [0.5, 0, 0, 0], [0, 0.8, 0, 0], [0, 0, 0, 1.0]])
        nib.save(nib.Nifti1Image(np.zeros((7, 5, 1), np.uint8), affine), tmp_path / "a.nii")
        assert read_volume(tmp_path / "a.nii", Reading(flat=True)).geometry.spacing == (0.5, 0.8)
        assert read_volume(tmp_path / "a.nii").geometry.ndim == 3
