"""Reading and writing images of every form: the only door to nibabel and SimpleITK."""

import gzip
import io
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from segpipe.core.atomic import write_bytes
from segpipe.core.errors import DataError, GeometryError
from segpipe.imaging import pictures
from segpipe.imaging.geometry import Geometry
from segpipe.imaging.pictures import is_picture, read_mask, read_picture, write_picture
from segpipe.imaging.reading import Reading, Unit
from segpipe.imaging.volume import Volume

NIFTI = (".nii.gz", ".nii")
OTHERS = (".nrrd", ".nhdr", ".mha", ".mhd")
SUFFIXES = NIFTI + OTHERS + pictures.SUFFIXES
"""Suffixes of the formats that are read, the longest first."""
PLAIN = Reading()

MAX_BYTES = 16 * 2**30
"""Largest array that is read: a header that claims more is a damaged one."""
HEADER_BYTES = {348: "nifti1", 540: "nifti2"}
TO_RAS = {2: np.diag([1.0, -1.0]), 3: np.diag([-1.0, -1.0, 1.0])}
"""From ITK's axes (L, P, S). In 2D there is no patient: x runs to the right of the page, y down it."""
IN_PLANE = 1e-3
"""Share of an axis that may point out of the plane of a 2D image."""
FORMS = (
    "qform_code",
    "sform_code",
    *[f"quatern_{x}" for x in "bcd"],
    *[f"{x}_{y}" for x in ("qoffset", "srow") for y in "xyz"],
)
MILLIMETRES = {"unknown": 1.0, "meter": 1000.0, "mm": 1.0, "micron": 0.001}


def suffix_of(path: Path) -> str | None:
    """Return the image suffix of a file name (``.nii.gz``), or None where it is no image that is read."""
    name = path.name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def stem_of(path: Path) -> str:
    """Return the file name without its image suffix."""
    suffix = suffix_of(path)
    return path.name[: -len(suffix)] if suffix else path.stem


def written_suffix(image: Path) -> str:
    """Return the suffix of the label map that belongs to an image: a lossless one of the image's own form."""
    if not is_picture(image):
        return ".nii.gz"
    return ".tif" if image.name.lower().endswith(pictures.TIFFS) else ".png"


def read_volume(path: Path, reading: Reading = PLAIN, page: int | None = None) -> Volume:
    """Return an image file as (C, *S) voxels in their stored type, scaled where the header says so.

    A fourth NIfTI axis holds channels. Nothing is reoriented: the grid is the file's own.

    Args:
        path: Of the file.
        reading: What the form of pictures leaves open.
        page: Of a stack of pictures, from 0.

    Raises:
        DataError: The file is missing, empty, damaged, or of a kind that is not read.
        GeometryError: Its affine is unusable.
    """
    if is_picture(path):
        return read_picture(path, reading, page)
    if not path.is_file():
        raise DataError(f"{path.name}: there is no such file. Restore it, or take the case out of the list.")
    if path.stat().st_size == 0:
        raise DataError(f"{path.name}: the file is empty (0 bytes). Fetch it again.")
    if path.name.lower().endswith(NIFTI):
        with np.errstate(all="ignore"):  # a damaged header holds any number: what is none is found afterwards
            image = _nifti(path)
            array = _channels_first(_voxels(image, path), path)
            flat = array.ndim == 4 and array.shape[-1] == 1 and reading.flat
            array = array[..., 0] if flat else array
            return Volume(array, _geometry(image, array.shape[1:], path))
    if path.name.lower().endswith(OTHERS):
        return _read_with_itk(path)
    raise DataError(f"{path.name}: not an image format that is read ({', '.join(SUFFIXES)}).")


def read_labels(path: Path, reading: Reading = PLAIN, page: int | None = None, grid: Geometry | None = None) -> Volume:
    """Return a label map (1, *S), or more channels where the file has them; ``grid`` is that of its image.

    A picture lies where its image lies; every other file says so itself.

    Raises:
        DataError: As ``read_volume``; or a picture is coloured, or has another size than ``grid``.
    """
    return read_mask(path, page, grid) if is_picture(path) else read_volume(path, reading)


def is_flat(path: Path) -> bool:
    """Tell from its header whether a NIfTI file holds a single slice; False for any other, and for a damaged one."""
    if not path.name.lower().endswith(NIFTI):
        return False
    try:
        shape = nib.load(path).shape
    except Exception:  # noqa: BLE001 - nibabel raises many kinds; whoever reads the file tells of them
        return False
    return len(shape) == 2 or (len(shape) > 2 and shape[2] == 1)


def _nifti(path: Path) -> Any:
    """Return the nibabel image of a whole, undamaged NIfTI file, held in memory."""
    data = _unpacked(path)
    size = struct.unpack("<i", data[:4])[0] if len(data) >= 4 else 0
    if size not in HEADER_BYTES and struct.unpack(">i", data[:4].ljust(4, b"\0"))[0] not in HEADER_BYTES:
        raise DataError(f"{path.name}: this is not a NIfTI file (it begins with {data[:12]!r}). Fetch it again.")
    kind = nib.Nifti1Image if {348} & {size, struct.unpack(">i", data[:4])[0]} else nib.Nifti2Image
    try:
        image = kind.from_bytes(data)
        # as it lies in the file: nibabel mends a header as it reads it, and a spacing of 0 becomes 1 mm
        spacing = kind.header_class.from_fileobj(io.BytesIO(data), check=False)["pixdim"][1:4]
        shape, bits = image.shape, int(image.header["bitpix"])
        offset = int(image.dataobj.offset)
        image.header.get_xyzt_units()  # fails for a unit that there is not
    except Exception as error:  # nibabel raises many kinds for a damaged header
        raise DataError(f"{path.name}: the NIfTI header is damaged ({error}). Fetch it again.") from error
    wanted = int(np.prod([max(n, 0) for n in shape], dtype=object)) * bits // 8
    if wanted <= 0 or wanted > MAX_BYTES:
        raise DataError(f"{path.name}: the header claims a shape of {shape}. It is damaged: fetch the file again.")
    if offset < image.header["sizeof_hdr"]:
        raise DataError(
            f"{path.name}: a header without its voxels. Convert the .hdr and .img pair to one .nii.gz file."
        )
    if (there := max(len(data) - offset, 0)) < wanted:
        raise DataError(f"{path.name}: the file is cut short ({there} of {wanted} bytes of voxels). Fetch it again.")
    if not image.header["sform_code"] and not (spacing[: len(shape)] != 0).all():
        raise DataError(f"{path.name}: the header holds no voxel size. Set pixdim, or export the file again.")
    return image


def _unpacked(path: Path) -> bytes:
    """Return the bytes of a file, unpacked to the end: a damaged gzip stream cannot pass."""
    if not path.name.lower().endswith(".gz"):
        return path.read_bytes()
    try:
        with gzip.open(path) as stream:
            data = stream.read(MAX_BYTES + 1)
    except EOFError as error:
        raise DataError(f"{path.name}: the gzip file is cut short (truncated). Fetch it again.") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path.name}: the gzip file is damaged ({error}). Fetch it again.") from error
    if len(data) > MAX_BYTES:
        raise DataError(f"{path.name}: unpacks to more than {MAX_BYTES // 2**30} GiB. It is damaged or hostile.")
    return data


def _voxels(image: Any, path: Path) -> NDArray[Any]:
    array = np.asanyarray(image.dataobj)
    if array.dtype.names or np.iscomplexobj(array):
        raise DataError(f"{path.name}: colour or complex voxels ({array.dtype}). Convert it to one number a voxel.")
    return np.asarray(array, array.dtype.newbyteorder("="))


def _channels_first(array: NDArray[Any], path: Path) -> NDArray[Any]:
    """Return (C, X, Y, Z) from a stored (X, Y, Z) or (X, Y, Z, C) array, and (1, X, Y) from (X, Y)."""
    if array.ndim in (2, 3):
        return array[None]
    if array.ndim == 4:
        return np.moveaxis(array, -1, 0)
    if array.ndim == 5 and array.shape[3] == 1:  # NIfTI's vector axis
        return np.moveaxis(array[:, :, :, 0], -1, 0)
    raise DataError(
        f"{path.name}: {array.ndim} axes {array.shape}; 2 or 3 are read, or 4 where the last holds channels."
    )


def _geometry(image: Any, shape: tuple[int, ...], path: Path) -> Geometry:
    unit, _ = image.header.get_xyzt_units()
    affine = np.asarray(image.affine, np.float64).copy()
    affine[:3] *= MILLIMETRES[unit]
    return _on_grid(shape, affine if len(shape) == 3 else _in_plane(affine), path)


def _in_plane(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (3, 3) affine of a slice: of an axial one the world's own axes, of any other those of the page."""
    steps = affine[:3, :2]
    lengths = np.linalg.norm(steps, axis=0)
    flat = np.eye(3)
    if (np.abs(steps[2]) <= IN_PLANE * lengths).all():
        flat[:2, :2], flat[:2, 2] = steps[:2], affine[:2, 3]
    else:
        largest = np.abs(steps).argmax(axis=0)
        flat[:2, :2] = np.diag(lengths * np.sign(steps[largest, (0, 1)]))
    return flat


def _on_grid(shape: tuple[int, ...], affine: NDArray[np.float64], path: Path) -> Geometry:
    try:
        return Geometry(shape, affine)
    except GeometryError as error:
        raise GeometryError(f"{path.name}: {error}. Repair the header, or export the file again.") from error


def _read_with_itk(path: Path) -> Volume:
    import SimpleITK as sitk  # noqa: PLC0415 - a heavy door, opened for its own formats only

    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise DataError(f"{path.name}: cannot be read ({_reason(error)}). Fetch it again.") from error
    rank = image.GetDimension()
    if rank not in (2, 3):
        raise DataError(f"{path.name}: {rank} axes {image.GetSize()}; 2 or 3 are read. Store channels as components.")
    array = sitk.GetArrayFromImage(image)
    channels = array if image.GetNumberOfComponentsPerPixel() > 1 else array[..., None]
    affine = np.eye(rank + 1)
    flip = TO_RAS[rank]
    affine[:-1, :-1] = flip @ np.asarray(image.GetDirection()).reshape(rank, rank) * np.asarray(image.GetSpacing())
    affine[:-1, -1] = flip @ np.asarray(image.GetOrigin())
    # ITK's array runs (Z, Y, X, C)
    return Volume(channels.transpose(rank, *range(rank - 1, -1, -1)), _on_grid(image.GetSize(), affine, path))


def _reason(error: RuntimeError) -> str:
    """Return the one line of ITK's many that says what is wrong."""
    lines = str(error).strip().splitlines()
    if lines[-1].startswith("[nrrd]"):
        return lines[-1]
    said = next((line for line in lines if "ERROR: " in line), lines[-1])
    return re.sub(r"^.*ERROR: (\w+\(0x\w+\): )?", "", said)


def write_volume(path: Path, volume: Volume, header_of: Path | None = None, unit: Unit = "mm") -> None:
    """Write a volume as NIfTI, or labels as PNG or TIFF: whole or not at all, the same bytes each time.

    Args:
        path: Ends in ``.nii.gz`` or ``.nii``; ``.png`` or ``.tif`` for the labels of a picture.
        volume: (1, *S), or (C, X, Y, Z) with the channels as a fourth axis.
        header_of: A NIfTI file on the same grid whose sform, qform and units are taken over, so that
            every viewer puts both at the same place. Free text in it is not: it may name a patient.
        unit: Of the volume's spacing, for a picture.
    """
    if is_picture(path):
        write_picture(path, volume, unit)
        return
    array = volume.array[0] if len(volume.array) == 1 else np.moveaxis(volume.array, 0, -1)
    if array.dtype in (np.dtype(np.int64), np.dtype(bool)):
        array = array.astype(np.int32 if array.dtype != bool else np.uint8)
    rank = volume.geometry.ndim
    affine = np.eye(4)
    affine[:rank, :rank], affine[:rank, 3] = volume.geometry.affine[:-1, :-1], volume.geometry.affine[:-1, -1]
    image = nib.Nifti1Image(array, affine, dtype=array.dtype)
    image.header.set_xyzt_units("mm")
    if header_of is not None and (taken := _forms_of(header_of, volume.geometry)) is not None:
        header, axes = taken
        header.set_data_dtype(array.dtype)
        image = nib.Nifti1Image(
            array.reshape((*array.shape[:rank], *[1] * (axes - rank), *array.shape[rank:])), None, header
        )
    raw = image.to_bytes()
    # no name and no time in the gzip header: the same volume gives the same bytes
    write_bytes(path, gzip.compress(raw, compresslevel=1, mtime=0) if path.name.endswith(".gz") else raw)


def _forms_of(path: Path, geometry: Geometry) -> tuple[Any, int] | None:
    """Return a new header with the forms and units of a NIfTI file, and its number of axes in space.

    None where it does not hold this grid in mm.
    """
    if not path.name.lower().endswith(NIFTI) or not path.is_file():
        return None
    source = nib.load(path)
    unit, _ = source.header.get_xyzt_units()
    spacing = source.header["pixdim"][1:4]
    affine = np.asarray(source.affine, np.float64)
    if geometry.ndim == 2:
        affine, extra = _in_plane(affine), source.shape[2:3]
    else:
        extra = ()
    same = source.shape[:3] == (*geometry.shape, *extra) and np.allclose(affine, geometry.affine, atol=1e-3)
    if unit not in ("mm", "unknown") or not same or not (np.isfinite(spacing) & (spacing > 0)).all():
        return None
    header = nib.Nifti1Header()
    for name in FORMS:  # as they stand: a form without a code may be nonsense, which is no concern of ours
        header[name] = source.header[name]
    header["pixdim"][:4] = source.header["pixdim"][:4]
    header.set_xyzt_units(unit)
    return header, min(len(source.shape), 3)
