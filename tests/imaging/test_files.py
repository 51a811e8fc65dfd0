"""Files in and out: same world, same numbers, nobody's name, and one line for each damaged file."""

import contextlib
import gzip
import itertools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from segpipe.core.errors import DataError, GeometryError, SegpipeError
from segpipe.imaging.files import read_volume, stem_of, suffix_of, write_volume
from segpipe.imaging.geometry import Geometry
from segpipe.imaging.volume import Volume

SHAPE = (3, 4, 5)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Nibabel logs what it mends in a header."""
    logging.getLogger("nibabel").disabled = True
    logging.getLogger("nibabel.global").disabled = True
    yield
    logging.getLogger("nibabel").disabled = False
    logging.getLogger("nibabel.global").disabled = False


def oblique(order: tuple[int, ...] = (0, 1, 2), signs: tuple[int, ...] = (1, 1, 1)) -> NDArray[np.float64]:
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", (10, -15, 20), degrees=True).as_matrix()
    affine[:3, :3] = (turn * (0.7, 1.2, 5))[:, order] * signs
    affine[:3, 3] = (-31.5, 12.25, 300.1)
    return affine


def numbers(dtype: Any = np.int16, shape: tuple[int, ...] = SHAPE) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 100, shape).astype(dtype)


def volume_of(array: NDArray[Any], affine: NDArray[np.float64] | None = None) -> Volume:
    return Volume(array, Geometry(array.shape[1:], oblique() if affine is None else affine))


# ---- round trips


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.float32, np.float64])
def test_a_nifti_file_comes_back_with_values_type_and_grid(tmp_path: Path, suffix: str, dtype: type) -> None:
    volume = volume_of(numbers(dtype)[None])
    write_volume(tmp_path / f"a{suffix}", volume)
    back = read_volume(tmp_path / f"a{suffix}")
    assert back.array.dtype == dtype
    assert np.array_equal(back.array, volume.array)
    assert back.geometry.matches(volume.geometry, 1e-4)
    assert np.allclose(back.geometry.affine, volume.geometry.affine, atol=1e-5)


@pytest.mark.parametrize(("dtype", "stored"), [(bool, np.uint8), (np.int64, np.int32)])
def test_types_that_nifti_readers_do_not_know_are_stored_in_one_they_do(
    tmp_path: Path, dtype: type, stored: type
) -> None:
    array = numbers(dtype)[None]
    write_volume(tmp_path / "a.nii.gz", volume_of(array))
    back = read_volume(tmp_path / "a.nii.gz")
    assert back.array.dtype == stored
    assert np.array_equal(back.array, array)


def test_channels_are_the_fourth_axis_of_the_file_and_the_first_in_memory(tmp_path: Path) -> None:
    array = numbers(np.float32, (2, *SHAPE))
    write_volume(tmp_path / "a.nii.gz", volume_of(array))
    seen = nib.load(tmp_path / "a.nii.gz")
    assert seen.shape == (*SHAPE, 2)
    assert np.array_equal(np.asarray(seen.dataobj)[..., 1], array[1])
    assert np.array_equal(read_volume(tmp_path / "a.nii.gz").array, array)


def test_the_same_volume_gives_the_same_bytes_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = volume_of(numbers()[None])
    write_volume(tmp_path / "a.nii.gz", volume)
    monkeypatch.setattr("time.time", lambda: 2e9)
    write_volume(tmp_path / "other name.nii.gz", volume)
    first = (tmp_path / "a.nii.gz").read_bytes()
    assert first == (tmp_path / "other name.nii.gz").read_bytes()
    write_volume(tmp_path / "back.nii.gz", read_volume(tmp_path / "a.nii.gz"), header_of=tmp_path / "a.nii.gz")
    assert first == (tmp_path / "back.nii.gz").read_bytes()


def test_simpleitk_sees_a_written_file_at_the_same_place(tmp_path: Path) -> None:
    volume = volume_of(numbers()[None])
    write_volume(tmp_path / "a.nii.gz", volume)
    seen = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    for index in itertools.product((0, 2), (0, 3), (0, 4)):
        lps = np.asarray(seen.TransformIndexToPhysicalPoint(index))
        assert np.allclose(lps * (-1, -1, 1), volume.geometry.world(index), atol=1e-3)
        assert seen[index] == volume.array[(0, *index)]


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("endianness", ["<", ">"])
def test_either_version_and_either_byte_order_is_read(tmp_path: Path, kind: Any, endianness: str) -> None:
    header = kind.header_class(endianness=endianness)
    header.set_data_dtype(np.int16)
    array = numbers()
    nib.save(kind(array, oblique(), header=header), tmp_path / "a.nii.gz")
    back = read_volume(tmp_path / "a.nii.gz")
    assert back.array.dtype == np.dtype("=i2")
    assert np.array_equal(back.array[0], array)
    assert np.allclose(back.geometry.affine, oblique(), atol=1e-4)


def test_a_scale_in_the_header_is_applied(tmp_path: Path) -> None:
    image = nib.Nifti1Image(numbers(), oblique())
    image.header.set_slope_inter(2.5, -1024)
    raw = image.to_bytes()
    (tmp_path / "a.nii").write_bytes(raw)
    assert np.allclose(read_volume(tmp_path / "a.nii").array[0], numbers() * 2.5 - 1024)


def test_a_vector_axis_holds_channels_too(tmp_path: Path) -> None:
    array = numbers(np.float32, (*SHAPE, 1, 2))
    nib.save(nib.Nifti1Image(array, oblique()), tmp_path / "a.nii.gz")
    assert np.array_equal(read_volume(tmp_path / "a.nii.gz").array, np.moveaxis(array[:, :, :, 0], -1, 0))


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1000), ("mm", 1), ("micron", 0.001), ("unknown", 1)])
def test_units_of_the_header_become_millimetres(tmp_path: Path, unit: str, factor: float) -> None:
    image = nib.Nifti1Image(numbers(), oblique())
    image.header.set_xyzt_units(unit, "sec")
    nib.save(image, tmp_path / "a.nii.gz")
    back = read_volume(tmp_path / "a.nii.gz").geometry
    assert np.allclose(back.affine[:3], oblique()[:3] * factor, rtol=1e-6, atol=1e-9)
    assert np.allclose(back.affine[3], (0, 0, 0, 1))


# ---- the header of another file


def source_with(path: Path, qform: int, sform: int, unit: str = "mm", affine: NDArray[np.float64] | None = None) -> Any:
    image = nib.Nifti1Image(numbers(), oblique((1, 0, 2), (1, -1, 1)) if affine is None else affine)
    image.set_qform(image.affine, qform)
    image.set_sform(image.affine if sform else np.diag([9, 9, 9, 1]), sform)
    image.header.set_xyzt_units(unit, "sec")
    nib.save(image, path)
    return nib.load(path)


@pytest.mark.parametrize("unit", ["mm", "unknown"])
@pytest.mark.parametrize(("qform", "sform"), list(itertools.product((0, 1, 2), repeat=2)))
def test_a_prediction_takes_over_forms_codes_and_units_of_the_scan(
    tmp_path: Path, qform: int, sform: int, unit: str
) -> None:
    scan = source_with(tmp_path / "scan.nii.gz", qform, sform, unit)
    read = read_volume(tmp_path / "scan.nii.gz")
    write_volume(tmp_path / "out.nii.gz", Volume(read.array.astype(np.uint8), read.geometry), tmp_path / "scan.nii.gz")
    out = nib.load(tmp_path / "out.nii.gz")
    assert (int(out.header["qform_code"]), int(out.header["sform_code"])) == (qform, sform)
    assert out.header.get_xyzt_units()[0] == unit
    assert np.abs(out.affine - scan.affine).max() < 1e-4
    assert np.abs(out.get_sform() - scan.get_sform()).max() < 1e-4
    assert np.abs(out.get_qform() - scan.get_qform()).max() < 1e-4
    assert np.allclose(out.header.get_zooms(), scan.header.get_zooms(), atol=1e-5)
    assert out.get_data_dtype() == np.uint8
    assert read_volume(tmp_path / "out.nii.gz").geometry.matches(read.geometry, 1e-4)
    seen = [sitk.ReadImage(str(tmp_path / name)) for name in ("scan.nii.gz", "out.nii.gz")]
    assert np.allclose(seen[0].GetOrigin(), seen[1].GetOrigin(), atol=1e-4)
    assert np.allclose(seen[0].GetDirection(), seen[1].GetDirection(), atol=1e-5)


@pytest.mark.parametrize("unit", ["meter", "micron"])
def test_a_prediction_on_a_scan_in_other_units_lies_at_the_same_place_in_millimetres(tmp_path: Path, unit: str) -> None:
    source_with(tmp_path / "scan.nii.gz", 1, 1, unit)
    read = read_volume(tmp_path / "scan.nii.gz")
    write_volume(tmp_path / "out.nii.gz", read, tmp_path / "scan.nii.gz")
    out = nib.load(tmp_path / "out.nii.gz")
    assert out.header.get_xyzt_units()[0] == "mm"
    scale = max(1.0, np.abs(read.geometry.affine).max())
    assert np.abs(out.affine - read.geometry.affine).max() < 1e-6 * scale


def test_a_qform_without_code_may_be_nonsense(tmp_path: Path) -> None:
    raw = bytearray(source_with(tmp_path / "scan.nii", 0, 1).to_bytes())
    raw[256:268] = np.array([3.0, 4.0, 5.0], "<f4").tobytes()  # a quaternion that is none
    (tmp_path / "scan.nii").write_bytes(bytes(raw))
    read = read_volume(tmp_path / "scan.nii")
    write_volume(tmp_path / "out.nii.gz", read, tmp_path / "scan.nii")
    out = nib.load(tmp_path / "out.nii.gz")
    assert np.abs(out.affine - read.geometry.affine).max() < 1e-4
    assert (int(out.header["qform_code"]), int(out.header["sform_code"])) == (0, 1)


def test_a_header_of_another_grid_is_not_taken_over(tmp_path: Path) -> None:
    source_with(tmp_path / "scan.nii.gz", 1, 1)
    volume = volume_of(numbers()[None])
    write_volume(tmp_path / "out.nii.gz", volume, tmp_path / "scan.nii.gz")
    assert np.allclose(nib.load(tmp_path / "out.nii.gz").affine, volume.geometry.affine, atol=1e-4)


@pytest.mark.parametrize("name", ["gone.nii.gz", "scan.mha"])
def test_without_a_nifti_header_to_take_over_the_grid_is_enough(tmp_path: Path, name: str) -> None:
    volume = volume_of(numbers()[None])
    write_volume(tmp_path / "out.nii.gz", volume, tmp_path / name)
    assert np.allclose(nib.load(tmp_path / "out.nii.gz").affine, volume.geometry.affine, atol=1e-4)


def test_no_word_of_the_source_reaches_the_output(tmp_path: Path) -> None:
    image = nib.Nifti1Image(numbers(), oblique())
    image.set_qform(oblique(), 1)
    for name, size in (("descrip", 80), ("aux_file", 24), ("db_name", 18), ("intent_name", 16)):
        image.header[name] = f"DOE^JOHN {name}".encode()[:size]
    image.header["data_type"] = b"DOE^JOHN"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"DOE^JOHN born 1950-01-01"))
    nib.save(image, tmp_path / "scan.nii.gz")
    assert gzip.decompress((tmp_path / "scan.nii.gz").read_bytes()).count(b"DOE^JOHN") == 6
    for header_of in (tmp_path / "scan.nii.gz", None):
        write_volume(tmp_path / "out.nii.gz", read_volume(tmp_path / "scan.nii.gz"), header_of)
        packed = (tmp_path / "out.nii.gz").read_bytes()
        assert b"DOE" not in gzip.decompress(packed)
        assert b"out.nii" not in packed  # gzip, too, has a field for a name
        header = nib.load(tmp_path / "out.nii.gz").header
        assert not header.extensions
        assert all(
            bytes(header[name]).strip(b"\0") == b"" for name in ("descrip", "aux_file", "db_name", "intent_name")
        )


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_volume(tmp_path / "a.nii.gz", volume_of(numbers()[None]))
    before = (tmp_path / "a.nii.gz").read_bytes()

    def fail(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        write_volume(tmp_path / "a.nii.gz", volume_of(numbers()[None] + 1))
    assert (tmp_path / "a.nii.gz").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii.gz"]


# ---- other formats


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize(
    ("order", "signs"), [((0, 1, 2), (1, 1, 1)), ((0, 1, 2), (-1, -1, 1)), ((2, 0, 1), (1, -1, -1))]
)
def test_nrrd_and_metaimage_give_what_the_same_nifti_gives(
    tmp_path: Path, suffix: str, order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    image = nib.Nifti1Image(numbers(), oblique(order, signs))
    image.set_qform(image.affine, 1)
    nib.save(image, tmp_path / "a.nii.gz")
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "a.nii.gz")), str(tmp_path / f"a{suffix}"))
    wanted, found = read_volume(tmp_path / "a.nii.gz"), read_volume(tmp_path / f"a{suffix}")
    assert np.array_equal(found.array, wanted.array)
    assert found.array.dtype == wanted.array.dtype
    assert found.geometry.matches(wanted.geometry, 1e-3)
    assert found.geometry.axes == "".join(nib.aff2axcodes(image.affine))


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_components_of_other_formats_are_channels(tmp_path: Path, suffix: str) -> None:
    array = numbers(np.float32, (2, *SHAPE))
    parts = [sitk.GetImageFromArray(channel.T) for channel in array]
    sitk.WriteImage(sitk.Compose(parts), str(tmp_path / f"a{suffix}"))
    found = read_volume(tmp_path / f"a{suffix}")
    assert np.array_equal(found.array, array)
    assert found.geometry.axes == "LPS"


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_flat_picture_is_a_grid_of_two_axes(tmp_path: Path, suffix: str) -> None:
    array = numbers(np.uint8, (6, 7))
    picture = sitk.GetImageFromArray(array.T)
    picture.SetSpacing((0.5, 2.0))
    picture.SetOrigin((3.0, 4.0))
    sitk.WriteImage(picture, str(tmp_path / f"a{suffix}"))
    found = read_volume(tmp_path / f"a{suffix}")
    assert np.array_equal(found.array[0], array)
    assert found.geometry.affine.tolist() == [[0.5, 0, 3], [0, -2, -4], [0, 0, 1]]  # right and down a page


@pytest.mark.parametrize(
    ("name", "suffix", "stem"),
    [
        ("a.nii.gz", ".nii.gz", "a"),
        ("A.NII.GZ", ".nii.gz", "A"),
        ("a.b.nii", ".nii", "a.b"),
        ("a.nrrd", ".nrrd", "a"),
        ("a.mha", ".mha", "a"),
        ("a.txt", None, "a"),
        ("nii", None, "nii"),
    ],
)
def test_a_file_is_known_by_its_suffix(name: str, suffix: str | None, stem: str) -> None:
    assert suffix_of(Path(name)) == suffix
    assert stem_of(Path(name)) == stem


def test_capitals_in_a_suffix_do_not_matter(tmp_path: Path) -> None:
    write_volume(tmp_path / "a.nii.gz", volume_of(numbers()[None]))
    (tmp_path / "a.nii.gz").rename(tmp_path / "A.NII.GZ")
    assert np.array_equal(read_volume(tmp_path / "A.NII.GZ").array[0], numbers())


# ---- damaged files


def with_field(name: str, value: Any, at: Any = ...) -> bytes:
    """Return a NIfTI file in which one field of the header is overwritten."""
    raw = nib.Nifti1Image(numbers(), oblique()).to_bytes()
    header = nib.Nifti1Header(raw[:348], check=False)
    field = np.array(header[name])
    field[at] = value
    header[name] = field
    return bytes(header.binaryblock) + raw[348:]


def formless(pixdim: float, qform: int = 0) -> bytes:
    """Return a NIfTI file without sform, and with this voxel size."""
    raw = bytearray(with_field("pixdim", pixdim, 2))
    raw[252:256] = np.array([qform, 0], "<i2").tobytes()
    return bytes(raw)


def image_bytes(array: NDArray[Any]) -> bytes:
    return bytes(nib.Nifti1Image(array, np.eye(4)).to_bytes())


def pair_header() -> bytes:
    header = nib.nifti1.Nifti1PairHeader()
    header.set_data_shape(SHAPE)
    header.set_data_dtype(np.uint8)
    return bytes(header.binaryblock)


WHOLE = nib.Nifti1Image(numbers(), oblique()).to_bytes()
PACKED = gzip.compress(WHOLE, mtime=0)


def flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 0x10
    return bytes(changed)


BAD: dict[str, tuple[str, bytes, str]] = {
    "zero_bytes": ("a.nii.gz", b"", "empty"),
    "cut_in_gzip_header": ("a.nii.gz", PACKED[:6], "cut short"),
    "cut_in_nifti_header": ("a.nii.gz", PACKED[:60], "cut short"),
    "cut_in_voxels": ("a.nii.gz", PACKED[:-40], "cut short"),
    "cut_before_crc": ("a.nii.gz", PACKED[:-8], "cut short"),
    "cut_by_one_byte": ("a.nii.gz", PACKED[:-1], "cut short"),
    "crc_flipped": ("a.nii.gz", flipped(PACKED, -8), "CRC"),
    "length_flipped": ("a.nii.gz", flipped(PACKED, -4), "damaged"),
    "bit_flipped_in_stream": ("a.nii.gz", flipped(PACKED, len(PACKED) // 2), "damaged|cut short"),
    "junk_after_gzip": ("a.nii.gz", PACKED + b"junk", "damaged"),
    "whole_gzip_of_half_a_file": ("a.nii.gz", gzip.compress(WHOLE[:-20]), "cut short .100 of 120 bytes"),
    "uncompressed_but_short": ("a.nii", WHOLE[:-7], "cut short"),
    "half_a_header": ("a.nii", WHOLE[:100], "damaged"),
    "two_bytes": ("a.nii", WHOLE[:2], "not a NIfTI"),
    "html": ("a.nii.gz", b"<!DOCTYPE html><html><body>404</body></html>", "gzip"),
    "html_in_gzip": ("a.nii.gz", gzip.compress(b"<!DOCTYPE html><html>404</html>"), "not a NIfTI"),
    "not_packed_at_all": ("a.nii.gz", WHOLE, "gzip"),
    "packed_but_not_called_so": ("a.nii", PACKED, "not a NIfTI"),
    "negative_dim": ("a.nii", with_field("dim", -3, 1), r"claims|damaged"),
    "zero_dim": ("a.nii", with_field("dim", 0, 2), r"claims|damaged"),
    "huge_dim": ("a.nii", with_field("dim", [3, 32767, 32767, 32767, 1, 1, 1, 1]), "claims"),
    "no_axes": ("a.nii", with_field("dim", 0, 0), "damaged|claims"),
    "many_axes": ("a.nii", with_field("dim", 99, 0), "damaged|claims"),
    "one_axis": ("a.nii", image_bytes(numbers(np.uint8, (3,))), "1 axes"),
    "five_axes": ("a.nii", image_bytes(numbers(np.uint8, (3, 4, 5, 2, 2))), "5 axes"),
    "unknown_type": ("a.nii", with_field("datatype", 7777), "damaged"),
    "unknown_unit": ("a.nii", with_field("xyzt_units", 7), "damaged"),
    "rgb": ("a.nii", image_bytes(np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])), "colour"),
    "complex": ("a.nii", image_bytes(np.zeros(SHAPE, np.complex64)), "colour or complex"),
    "offset_in_header": ("a.nii", with_field("vox_offset", 16), "damaged|cut short"),
    "offset_not_a_number": ("a.nii", with_field("vox_offset", np.nan), "damaged"),
    "header_of_a_pair": ("a.nii", pair_header() + bytes(100), "pair"),
    "nan_affine": ("a.nii", with_field("srow_x", np.nan, 1), "not numbers"),
    "infinite_affine": ("a.nii", with_field("srow_z", np.inf, 3), "not numbers"),
    "singular_affine": ("a.nii", with_field("srow_y", 0), "singular"),
    "no_spacing_and_no_form": ("a.nii", formless(0.0), "no voxel size"),
    "no_spacing_and_a_qform": ("a.nii", formless(0.0, qform=1), "no voxel size"),
    "spacing_not_a_number": ("a.nii", formless(np.nan), "not numbers"),
    "other_suffix": ("a.dcm", WHOLE, "not an image format"),
    "html_as_nrrd": ("a.nrrd", b"<html>404</html>", "cannot be read"),
    "html_as_mha": ("a.mha", b"<html>404</html>", "cannot be read"),
    "nothing_as_mha": ("a.mha", b"", "empty"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_gives_one_line_that_names_it(tmp_path: Path, case: str) -> None:
    name, data, said = BAD[case]
    (tmp_path / name).write_bytes(data)
    with pytest.raises((DataError, GeometryError), match=said) as caught:
        read_volume(tmp_path / name)
    assert str(caught.value).startswith(f"{name}: ")
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder.nii.gz").mkdir()
    for name in ("gone.nii.gz", "folder.nii.gz"):
        with pytest.raises(DataError, match=f"^{name}: there is no such file"):
            read_volume(tmp_path / name)


def cut(data: bytes) -> bytes:
    return data[:-30]


def beheaded(data: bytes) -> bytes:
    return data[:40]


def flat(data: bytes) -> bytes:
    return data.replace(b"(1,0,0) (0,1,0)", b"(1,0,0) (1,0,0)").replace(b"1 0 0 0 1 0 0 0 1", b"1 0 0 1 0 0 0 0 1")


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
@pytest.mark.parametrize("harm", [cut, beheaded, flat])
def test_a_damaged_nrrd_or_metaimage_gives_one_line_too(
    tmp_path: Path, suffix: str, harm: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(numbers(np.float32)), str(path))
    whole = path.read_bytes()
    path.write_bytes(harm(whole))
    assert path.read_bytes() != whole
    with pytest.raises((DataError, GeometryError), match=rf"^a{suffix}: cannot be read \(\S+ .*\)\. Fetch") as caught:
        read_volume(path)
    assert "\n" not in str(caught.value)
    assert "No such file" not in str(caught.value)  # ITK's last words on whatever is wrong with a MetaImage


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_four_axes_are_refused_by_name(tmp_path: Path, suffix: str) -> None:
    image = sitk.GetImageFromArray(numbers(np.float32, (2, 3, 4, 5)), isVector=False)
    sitk.WriteImage(image, str(tmp_path / f"a{suffix}"))
    with pytest.raises(DataError, match=f"^a{suffix}: 4 axes"):
        read_volume(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_random_bytes_in_a_header_give_a_volume_or_one_line(tmp_path: Path, kind: Any, dtype: type) -> None:
    rng = np.random.default_rng(7)
    image = kind(numbers(dtype), oblique())
    image.header.set_slope_inter(2.0 if dtype is np.int16 else None, 1.0 if dtype is np.int16 else None)
    whole = np.frombuffer(image.to_bytes(), np.uint8)
    said: list[str] = []
    read = 0
    path = tmp_path / "a.nii.gz"
    for _ in range(250):
        data = whole.copy()
        places = rng.integers(0, int(image.header["sizeof_hdr"]) + 4, rng.integers(1, 6))
        data[places] = rng.integers(0, 256, len(places))
        path.write_bytes(gzip.compress(data.tobytes(), 1))
        try:
            volume = read_volume(path)
        except SegpipeError as error:
            said.append(str(error))
            continue
        assert volume.array.dtype.kind in "iuf"
        assert np.isfinite(volume.geometry.affine).all()
        read += 1
    assert min(read, len(said)) > 20
    assert all(text.startswith("a.nii.gz: ") and "\n" not in text for text in said)


def test_random_bytes_in_the_packed_stream_never_give_other_voxels(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    path = tmp_path / "a.nii.gz"
    refused = 0
    for _ in range(300):
        data = bytearray(PACKED)
        data[rng.integers(10, len(data))] = rng.integers(0, 256)
        path.write_bytes(bytes(data))
        with contextlib.suppress(SegpipeError):
            assert np.array_equal(read_volume(path).array[0], numbers())
            continue
        refused += 1
    assert refused > 200


def test_a_file_that_unpacks_without_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segpipe.imaging.files.MAX_BYTES", 1000)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(bytes(2000)))
    with pytest.raises(DataError, match="unpacks to more than"):
        read_volume(tmp_path / "a.nii.gz")
