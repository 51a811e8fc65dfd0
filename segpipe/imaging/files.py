"""Reading and writing images: the only door to nibabel and SimpleITK."""

import gzip
import struct
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from segpipe.core.atomic import write_bytes
from segpipe.core.errors import DataError, GeometryError
from segpipe.imaging.geometry import Geometry
from segpipe.imaging.volume import Volume

NIFTI = (".nii.gz", ".nii")
OTHERS = (".nrrd", ".nhdr", ".mha", ".mhd")
SUFFIXES = NIFTI + OTHERS
"""Suffixes of the formats that are read, the longest first."""

MAX_BYTES = 16 * 2**30
"""Largest array that is read: a header that claims more is a damaged one."""
HEADER_BYTES = {348: "nifti1", 540: "nifti2"}
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
MILLIMETRES = {"unknown": 1.0, "meter": 1000.0, "mm": 1.0, "micron": 0.001}


def suffix_of(path: Path) -> str | None:
    """Return the image suffix of a file name (``.nii.gz``), or None where it is no image that is read."""
    name = path.name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def stem_of(path: Path) -> str:
    """Return the file name without its image suffix."""
    suffix = suffix_of(path)
    return path.name[: -len(suffix)] if suffix else path.stem


def read_volume(path: Path) -> Volume:
    """Return an image file as (C, *S) voxels in their stored type, scaled where the header says so.

    A fourth NIfTI axis holds channels. Nothing is reoriented: the grid is the file's own.

    Raises:
        DataError: The file is missing, empty, damaged, or of a kind that is not read.
        GeometryError: Its affine is unusable.
    """
    if not path.is_file():
        raise DataError(f"{path.name}: there is no such file. Restore it, or take the case out of the list.")
    if path.stat().st_size == 0:
        raise DataError(f"{path.name}: the file is empty (0 bytes). Fetch it again.")
    if path.name.lower().endswith(NIFTI):
        image = _nifti(path)
        return Volume(_channels_first(_voxels(image, path), path), _geometry(image, path))
    if path.name.lower().endswith(OTHERS):
        return _read_with_itk(path)
    raise DataError(f"{path.name}: not an image format that is read ({', '.join(SUFFIXES)}).")


def _nifti(path: Path) -> Any:
    """Return the nibabel image of a whole, undamaged NIfTI file, held in memory."""
    data = _unpacked(path)
    size = struct.unpack("<i", data[:4])[0] if len(data) >= 4 else 0
    if size not in HEADER_BYTES and struct.unpack(">i", data[:4].ljust(4, b"\0"))[0] not in HEADER_BYTES:
        raise DataError(f"{path.name}: this is not a NIfTI file (it begins with {data[:12]!r}). Fetch it again.")
    kind = nib.Nifti1Image if {348} & {size, struct.unpack(">i", data[:4])[0]} else nib.Nifti2Image
    try:
        image = kind.from_bytes(data)
        shape, bits = image.shape, int(image.header["bitpix"])
        offset = int(image.dataobj.offset)
    except Exception as error:  # nibabel raises many kinds for a damaged header
        raise DataError(f"{path.name}: the NIfTI header is damaged ({error}). Fetch it again.") from error
    wanted = int(np.prod([max(n, 0) for n in shape], dtype=object)) * bits // 8
    if wanted <= 0 or wanted > MAX_BYTES:
        raise DataError(f"{path.name}: the header claims a shape of {shape}. It is damaged: fetch the file again.")
    if len(data) - offset < wanted:
        raise DataError(
            f"{path.name}: the file is cut short ({len(data) - offset} of {wanted} bytes of voxels). Fetch it again."
        )
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
    """Return (C, X, Y, Z) from a stored (X, Y, Z) or (X, Y, Z, C) array."""
    if array.ndim == 3:
        return array[None]
    if array.ndim == 4:
        return np.moveaxis(array, -1, 0)
    if array.ndim == 5 and array.shape[3] == 1:  # NIfTI's vector axis
        return np.moveaxis(array[:, :, :, 0], -1, 0)
    raise DataError(f"{path.name}: {array.ndim} axes {array.shape}; 3 are read, or 4 where the last holds channels.")


def _geometry(image: Any, path: Path) -> Geometry:
    header = image.header
    if not header["qform_code"] and not header["sform_code"] and (header["pixdim"][1:4] <= 0).any():
        raise DataError(f"{path.name}: the header holds no voxel size. Set pixdim, or export the file again.")
    unit, _ = header.get_xyzt_units()
    affine = np.diag([MILLIMETRES[unit]] * 3 + [1.0]) @ image.affine
    try:
        return Geometry(tuple(image.shape[:3]), affine)
    except GeometryError as error:
        raise GeometryError(f"{path.name}: {error}. Repair the header, or export the file again.") from error


def _read_with_itk(path: Path) -> Volume:
    import SimpleITK as sitk  # noqa: PLC0415 - a heavy door, opened for its own formats only

    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise DataError(f"{path.name}: cannot be read ({reason}). Fetch it again.") from error
    rank = image.GetDimension()
    array = sitk.GetArrayFromImage(image)
    channels = array if image.GetNumberOfComponentsPerPixel() > 1 else array[..., None]
    affine = np.eye(rank + 1)
    flip = LPS_TO_RAS[:rank, :rank]
    affine[:-1, :-1] = flip @ np.asarray(image.GetDirection()).reshape(rank, rank) * np.asarray(image.GetSpacing())
    affine[:-1, -1] = flip @ np.asarray(image.GetOrigin())
    # ITK's array runs (Z, Y, X, C)
    return Volume(channels.transpose(rank, *range(rank - 1, -1, -1)), Geometry(image.GetSize(), affine))


def write_volume(path: Path, volume: Volume, header_of: Path | None = None) -> None:
    """Write a volume as NIfTI: whole or not at all, the same bytes each time.

    Args:
        path: Ends in ``.nii.gz`` or ``.nii``.
        volume: (1, X, Y, Z), or (C, X, Y, Z) with the channels as a fourth axis.
        header_of: A NIfTI file on the same grid whose sform, qform and units are taken over, so that
            every viewer puts both at the same place. Free text in it is not: it may name a patient.
    """
    array = volume.array[0] if len(volume.array) == 1 else np.moveaxis(volume.array, 0, -1)
    if array.dtype in (np.dtype(np.int64), np.dtype(bool)):
        array = array.astype(np.int32 if array.dtype != bool else np.uint8)
    image = nib.Nifti1Image(array, volume.geometry.affine, dtype=array.dtype)
    image.header.set_xyzt_units("mm")
    if header_of is not None and header_of.name.lower().endswith(NIFTI) and header_of.is_file():
        original = nib.load(header_of)
        assert isinstance(original, nib.Nifti1Image)
        unit, _ = original.header.get_xyzt_units()
        if unit in ("mm", "unknown") and np.allclose(original.affine, volume.geometry.affine, atol=1e-3):
            image.set_sform(original.get_sform(), int(original.header["sform_code"]))
            image.set_qform(original.get_qform(), int(original.header["qform_code"]), strip_shears=True)
            image.header.set_xyzt_units(unit)
    raw = image.to_bytes()
    # no name and no time in the gzip header: the same volume gives the same bytes
    write_bytes(path, gzip.compress(raw, compresslevel=1, mtime=0) if path.name.endswith(".gz") else raw)
