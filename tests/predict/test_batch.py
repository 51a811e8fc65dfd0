"""Many scans: each on its own grid, and a bad one never stops the others."""

import contextlib
import gzip
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from torch import nn

from segpipe.core.errors import ArtifactError, DataError, MachineError
from segpipe.dataset.manifest import Channel
from segpipe.dataset.plan import Plan
from segpipe.dataset.topology import Topology
from segpipe.imaging.files import read_volume
from segpipe.imaging.intensity import Unchanged
from segpipe.imaging.labels import LabelSet
from segpipe.imaging.targets import Classes
from segpipe.nets.checkpoint import save_model
from segpipe.nets.unet import UNetConfig
from segpipe.predict.batch import predict_files
from segpipe.predict.window import WindowConfig

AFFINE = np.array([[0, -1.0, 0.02, 30], [1.2, 0, 0, -20], [0, 0.02, 1, 5], [0, 0, 0, 1]])


class Bar:
    """Remembers how far it was told to be."""

    def __init__(self) -> None:
        self.total = 0
        self.done = 0

    @contextlib.contextmanager
    def __call__(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        self.total = total

        def advance(count: int) -> None:
            self.done += count

        yield advance


def save(folder: Path, channels: int) -> Path:
    """Write a model that finds what is above 0.5 in the mean of its channels."""
    plan = Plan(
        dataset="toy",
        channels=tuple(Channel(name=f"T{i}") for i in range(1, channels + 1)),
        labels=LabelSet.plain({"ball": 3}),
        target=Classes(),
        spacing=(1.0, 1.2, 1.0),
        normalise=(Unchanged(),) * channels,
        median_shape=(8, 8, 8),
        patch=(8, 8, 8),
        batch=2,
        topology=Topology(strides=((1, 1, 1),), kernels=((1, 1, 1),) * 2),
        reasons={},
    )
    config = UNetConfig(widths=(1, 1), norm="none", deep_supervision=False, convolutions=1, activation="relu")
    network = config.spec(channels, 2, plan.topology.strides, plan.topology.kernels).build()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for layer, weight in ((network.encoder.blocks[0][0], 1 / channels), (network.decoder.blocks[0][0], 1.0)):
            assert isinstance(layer, nn.Conv3d)
            layer.weight[0, : channels if weight < 1 else 1] = weight
        network.decoder.heads[0].weight[-1] = 20
        network.decoder.heads[0].bias[-1] = -10
    notes = {"plan": plan.model_dump(mode="json"), "window": WindowConfig(precision="fp32").model_dump(mode="json")}
    save_model(folder, network, notes)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(tmp_path / "model", 1)


def image(seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).choice([0.25, 0.75], (6, 7, 8)).astype(np.float32)
    values[0, 0, 0], values[-1, -1, -1] = 0.1, 0.9  # the corners differ: nothing is padding
    return values


def scan(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = nib.Nifti1Image(image(seed), AFFINE)
    made.set_qform(AFFINE, 1)
    nib.save(made, path)
    return path


def test_each_scan_gets_a_map_on_its_own_grid(tmp_path: Path, model: Path) -> None:
    scan(tmp_path / "in" / "a.nii.gz", 1)
    scan(tmp_path / "in" / "b.nii", 2)
    picture = sitk.GetImageFromArray(image(3).T)
    picture.SetSpacing((1, 1.2, 1))
    sitk.WriteImage(picture, str(tmp_path / "in" / "c.mha"))
    bar = Bar()
    done, refused = predict_files(model, [tmp_path / "in"], tmp_path / "out", bar, device="cpu")
    assert [path.name for path in done] == ["a.nii.gz", "b.nii.gz", "c.nii.gz"]
    assert refused == []
    assert (bar.total, bar.done) == (3, 3)
    for name, seed in (("a.nii.gz", 1), ("b.nii", 2), ("c.mha", 3)):
        given = read_volume(tmp_path / "in" / name)
        made = read_volume(tmp_path / "out" / f"{name[0]}.nii.gz")
        assert made.geometry.matches(given.geometry, 1e-4)
        assert np.array_equal(made.array[0] == 3, image(seed) > 0.5)
    header = nib.load(tmp_path / "out" / "a.nii.gz").header
    assert int(header["qform_code"]) == 1


def test_a_bad_scan_is_named_with_its_reason_and_the_others_are_segmented(tmp_path: Path, model: Path) -> None:
    folder = tmp_path / "in"
    for index, name in enumerate(("a", "z")):
        scan(folder / f"{name}.nii.gz", index)
    (folder / "cut.nii.gz").write_bytes((folder / "a.nii.gz").read_bytes()[:-30])
    (folder / "empty.nii.gz").write_bytes(b"")
    holed = image()
    holed[2, 2, 2] = np.nan
    nib.save(nib.Nifti1Image(holed, AFFINE), folder / "nan.nii.gz")
    nib.save(nib.Nifti1Image(np.stack([image(), image()], axis=-1), AFFINE), folder / "two.nii.gz")
    raw = bytearray(gzip.decompress((folder / "a.nii.gz").read_bytes()))
    raw[280:296] = bytes(16)
    (folder / "flat.nii").write_bytes(bytes(raw))
    bar = Bar()
    done, refused = predict_files(model, [folder], tmp_path / "out", bar, device="cpu")
    assert [path.name for path in done] == ["a.nii.gz", "z.nii.gz"]
    said = {refusal.case: refusal.reason for refusal in refused}
    assert set(said) == {"cut", "empty", "nan", "two", "flat"}
    for case, word in (("cut", "cut short"), ("empty", "empty"), ("nan", "not numbers"), ("two", "2 channel")):
        assert said[case].startswith(f"{case}.nii.gz: ")
        assert word in said[case]
    assert said["flat"].startswith("flat.nii: ")
    assert all("\n" not in text and text.count(".nii") == 1 for text in said.values())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.nii.gz", "z.nii.gz"]
    assert bar.done == 7


def test_files_of_several_channels_are_one_case(tmp_path: Path) -> None:
    model = save(tmp_path / "model", 2)
    for name, seed in (("p_0000", 1), ("p_0001", 2)):
        scan(tmp_path / "in" / f"{name}.nii.gz", seed)
    done, refused = predict_files(model, [tmp_path / "in"], tmp_path / "out", Bar(), device="cpu")
    assert [path.name for path in done] == ["p.nii.gz"]
    assert refused == []
    assert np.array_equal(read_volume(done[0]).array[0] == 3, (image(1) + image(2)) / 2 > 0.51)


def test_channels_on_different_grids_are_refused_and_named(tmp_path: Path) -> None:
    model = save(tmp_path / "model", 2)
    scan(tmp_path / "in" / "p_0000.nii.gz")
    nib.save(nib.Nifti1Image(image()[:-1], AFFINE), tmp_path / "in" / "p_0001.nii.gz")
    done, refused = predict_files(model, [tmp_path / "in"], tmp_path / "out", Bar(), device="cpu")
    assert done == []
    assert [refusal.case for refusal in refused] == ["p"]
    assert refused[0].reason.startswith("p_0001.nii.gz: its grid (5x7x8 ")
    assert "p_0000.nii.gz" in refused[0].reason


def test_channels_on_shifted_grids_are_refused_though_their_shapes_agree(tmp_path: Path) -> None:
    model = save(tmp_path / "model", 2)
    scan(tmp_path / "in" / "p_0000.nii.gz")
    moved = AFFINE.copy()
    moved[0, 3] += 0.5
    nib.save(nib.Nifti1Image(image(), moved), tmp_path / "in" / "p_0001.nii.gz")
    done, refused = predict_files(model, [tmp_path / "in"], tmp_path / "out", Bar(), device="cpu")
    assert done == []
    assert "its grid" in refused[0].reason


def test_what_exists_is_skipped_when_that_is_asked_for(tmp_path: Path, model: Path) -> None:
    scan(tmp_path / "in" / "a.nii.gz")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.nii.gz").write_bytes(b"mine")
    done, _ = predict_files(model, [tmp_path / "in"], tmp_path / "out", Bar(), device="cpu", skip_existing=True)
    assert [path.name for path in done] == ["a.nii.gz"]
    assert (tmp_path / "out" / "a.nii.gz").read_bytes() == b"mine"
    predict_files(model, [tmp_path / "in"], tmp_path / "out", Bar(), device="cpu")
    assert (tmp_path / "out" / "a.nii.gz").read_bytes() != b"mine"


def test_no_scans_are_refused_before_anything_is_written(tmp_path: Path, model: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "readme.txt").write_text("x")
    for scans in ([tmp_path / "in"], [tmp_path / "in" / "readme.txt"], [tmp_path / "gone.nii.gz"]):
        with pytest.raises(DataError, match="image"):
            predict_files(model, scans, tmp_path / "out", Bar(), device="cpu")
    assert not (tmp_path / "out").exists()


def test_two_scans_of_one_name_are_refused(tmp_path: Path, model: Path) -> None:
    scans = [scan(tmp_path / "x" / "a.nii.gz"), scan(tmp_path / "y" / "a.nii.gz", 1)]
    with pytest.raises(DataError, match="named 'a'"):
        predict_files(model, scans, tmp_path / "out", Bar(), device="cpu")


def test_two_scans_that_would_be_written_to_one_file_are_refused(tmp_path: Path, model: Path) -> None:
    scans = [scan(tmp_path / "in" / "a b.nii.gz"), scan(tmp_path / "in" / "a_b.nii.gz", 1)]
    with pytest.raises(DataError, match="a_b"):
        predict_files(model, scans, tmp_path / "out", Bar(), device="cpu")


def test_a_prediction_never_takes_the_place_of_its_scan(tmp_path: Path, model: Path) -> None:
    path = scan(tmp_path / "in" / "a.nii.gz")
    before = path.read_bytes()
    for scans, out in (([tmp_path / "in"], tmp_path / "in"), ([path], tmp_path / "out" / ".." / "in")):
        with pytest.raises(DataError, match="'a' would take the place of the scan"):
            predict_files(model, scans, out, Bar(), device="cpu")
    assert path.read_bytes() == before


def test_a_full_disk_stops_at_once_and_is_no_fault_of_the_scan(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan(tmp_path / "in" / "a.nii.gz")

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(MachineError, match="disk is full"):
        predict_files(model, [tmp_path / "in"], tmp_path / "out", Bar(), device="cpu")


def test_a_folder_that_is_no_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not a model folder"):
        predict_files(tmp_path, [scan(tmp_path / "in" / "a.nii.gz")], tmp_path / "out", Bar(), device="cpu")


def test_several_models_in_one_folder_segment_together(tmp_path: Path, model: Path) -> None:
    several = tmp_path / "several"
    several.mkdir()
    for name in ("fold0", "fold1-seed2"):
        (several / name).symlink_to(model)
    path = scan(tmp_path / "in" / "a.nii.gz", 1)
    done, refused = predict_files(several, [path], tmp_path / "out", Bar(), device="cpu")
    assert refused == []
    assert np.array_equal(read_volume(done[0]).array[0] == 3, image(1) > 0.5)
