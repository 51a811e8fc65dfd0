"""A model folder for other people: it predicts by itself, says what it is, and gives nobody away."""

import getpass
import hashlib
import json
import re
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segpipe import __version__
from segpipe.core.errors import ArtifactError, MachineError
from segpipe.core.fingerprint import file_sha256
from segpipe.dataset.manifest import Case, Channel, FileRef
from segpipe.dataset.plan import Plan
from segpipe.dataset.topology import Topology
from segpipe.imaging.files import read_volume, write_volume
from segpipe.imaging.geometry import Geometry
from segpipe.imaging.intensity import Unchanged, Window, ZScore
from segpipe.imaging.labels import LabelSet, Structure
from segpipe.imaging.targets import Classes, Regions, SignedDistance, Target
from segpipe.imaging.volume import Volume
from segpipe.nets.checkpoint import MODEL, WEIGHTS, load_tensors, save_tensors
from segpipe.nets.precision import laid_out
from segpipe.nets.unet import UNet, UNetConfig
from segpipe.predict.export import CARD, SELF_TEST, SETTINGS, export_model, self_test
from segpipe.predict.origin import ExportConfig, Origin, content_hash, spacing_range
from segpipe.predict.segmenter import Segmenter
from segpipe.predict.window import WindowConfig

EXACT = WindowConfig(precision="fp32")
FIGURES = {"dice": 0.81234, "dice_a": 0.9, "dice_b": float("nan")}


def plan_of(rank: int = 3, target: Target | None = None, **changes: Any) -> Plan:
    values: dict[str, Any] = {
        "dataset": "Toy | set",
        "channels": (Channel(name="T1"),),
        "labels": LabelSet.plain({"a": 1, "b": 4}),
        "target": target or Classes(),
        "spacing": (1.0, 1.0, 1.5)[:rank],
        "normalise": (ZScore(),),
        "median_shape": (12,) * rank,
        "patch": (8,) * rank,
        "batch": 2,
        "topology": Topology(strides=((2,) * rank,), kernels=((3,) * rank,) * 2),
        "reasons": {"spacing": "set in the config"},
    }
    return Plan(**(values | changes))


def network_of(plan: Plan, seed: int = 0) -> UNet:
    """Return a network as training leaves it: laid out, after steps that moved its weights."""
    torch.manual_seed(seed)
    rank = len(plan.spacing)
    spec = UNetConfig(features=4).spec(
        len(plan.channels), plan.out_channels, plan.topology.strides, plan.topology.kernels
    )
    network = laid_out(spec.build(), rank, "cpu")
    optimizer = torch.optim.AdamW(network.parameters(), 0.01, fused=True)
    for _ in range(2):
        optimizer.zero_grad()
        network(torch.randn(2, len(plan.channels), *plan.patch)).square().mean().backward()
        optimizer.step()
    return network.eval()


def case(name: str, spacing: tuple[float, ...], subject: str = "") -> Case:
    """Return a case whose axes are stored turned, as a file may have them."""
    affine = np.eye(4)
    affine[:3, :3] = np.diag(spacing)[:, [2, 0, 1]]
    digest = hashlib.sha256(name.encode()).hexdigest()
    return Case(
        id=name,
        subject=subject or name,
        part="develop",
        images=(FileRef(path=f"scans/{name}.nii.gz", sha256=digest),),
        label=FileRef(path=f"maps/{name}.nii.gz", sha256=digest[::-1]),
        shape=(4, 5, 6),
        affine=tuple(map(tuple, affine.tolist())),
    )


TRAINING = (case("jane-doe_1", (0.7, 0.8, 3.0), "jane-doe"), case("jane-doe_2", (0.9, 0.8, 2.5), "jane-doe"))
VALIDATION = (case("john-roe", (0.7, 0.8, 3.0)),)


def origin_of(**changes: Any) -> Origin:
    values: dict[str, Any] = {
        "training": TRAINING,
        "validation": VALIDATION,
        "fold": 2,
        "seed": 7,
        "steps": 1500,
        "settings": {"train": {"fit": {"steps": 1500}}},
        "figures": FIGURES,
        "fingerprints": {"ingest": "0123456789abcdef"},
    }
    return Origin(**(values | changes))


def scan_of(rank: int = 3, channels: int = 1, first: float = 1.3) -> Volume:
    shape = (11, 12, 9)[:rank]
    image = np.random.default_rng(3).normal(size=(channels, *shape)).astype(np.float32)
    return Volume(image, Geometry(shape, np.diag([*(first, 1.0, 1.5)[:rank], 1.0])))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return exported(tmp_path / "model")


def exported(folder: Path, plan: Plan | None = None, **changes: Any) -> Path:
    plan = plan or plan_of()
    export_model(folder, network_of(plan), plan, EXACT, origin_of(**changes))
    return folder


def card_of(folder: Path) -> str:
    """Return the card with its lines joined, so that a sentence can be looked for."""
    return " ".join((folder / CARD).read_text().split())


# ---- it predicts by itself


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("target", [Classes(), Regions(), SignedDistance()], ids=lambda target: target.kind)
def test_the_folder_predicts_the_bits_that_training_had(
    tmp_path: Path, rank: int, target: Target, precision: str
) -> None:
    plan, window = plan_of(rank, target), WindowConfig.model_validate({"precision": precision})
    network = network_of(plan)
    export_model(tmp_path, network, plan, window, origin_of())
    here, there = Segmenter((network,), plan, window), Segmenter.load(tmp_path, "cpu")
    assert (there.plan, there.window) == (plan, window)
    assert np.array_equal(here.scores(scan_of(rank)).array, there.scores(scan_of(rank)).array)
    self_test(tmp_path, here, scan_of(rank))
    told = json.loads((tmp_path / SELF_TEST).read_text())
    labels = there(scan_of(rank)).array
    assert told["prediction_sha256"] == hashlib.sha256(labels.tobytes()).hexdigest()
    assert told["voxels"] == {"a": int((labels == 1).sum()), "b": int((labels == 4).sum())}
    assert (told["device"], told["computed_in"]) == ("cpu", precision)


def test_the_folder_holds_what_it_says_and_the_description_comes_last(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {WEIGHTS, MODEL, SETTINGS, CARD}
    assert json.loads((folder / SETTINGS).read_text()) == {"train": {"fit": {"steps": 1500}}}
    written = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert max(written, key=lambda name: written[name]) == MODEL


def test_what_is_cut_short_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any) -> None:
        raise MachineError("the disk is full")

    monkeypatch.setattr("segpipe.predict.export.write_text", full)
    with pytest.raises(MachineError):
        exported(tmp_path)
    with pytest.raises(ArtifactError, match="not a model folder"):
        Segmenter.load(tmp_path, "cpu")


def test_exporting_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = exported(tmp_path / "a"), exported(tmp_path / "b")
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


# ---- it gives nobody away


def test_no_case_path_machine_person_or_time_is_told(folder: Path) -> None:
    plan = plan_of()
    self_test(folder, Segmenter((network_of(plan),), plan, EXACT), scan_of())
    text = "\n".join(path.read_text() for path in folder.iterdir() if path.name != WEIGHTS)
    text += (folder / WEIGHTS).read_bytes()[:5000].decode("latin-1")
    named = {"jane-doe", "john-roe", "scans/", "maps/", str(folder.parent), socket.gethostname(), getpass.getuser()}
    assert [name for name in named if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)] == []
    assert not re.search(r"20\d\d-\d\d-\d\d|\d\d:\d\d", text)
    assert not any(ref.sha256 in text for one in (*TRAINING, *VALIDATION) for ref in (*one.images, one.label) if ref)


def test_the_hash_of_the_cases_is_of_their_content_alone() -> None:
    renamed = [one.model_copy(update={"id": f"x{index}", "subject": "y"}) for index, one in enumerate(TRAINING)]
    assert content_hash(renamed) == content_hash(TRAINING) == content_hash(TRAINING[::-1])
    assert content_hash(TRAINING[:1]) != content_hash(TRAINING)
    assert content_hash([TRAINING[0].model_copy(update={"label": None})]) != content_hash(TRAINING[:1])


def test_the_range_of_spacings_is_along_the_axes_of_the_body() -> None:
    low, high = spacing_range(TRAINING)
    assert low == [0.7, 0.8, 2.5]
    assert high == [0.9, 0.8, 3.0]


# ---- it says what it is


def test_the_description_tells_where_the_model_comes_from(folder: Path) -> None:
    told = json.loads((folder / MODEL).read_text())
    assert told["made_by"] == f"segpipe {__version__}"
    assert told["versions"]["torch"] == torch.__version__
    assert told["parameters"] == sum(tensor.numel() for tensor in load_tensors(folder / WEIGHTS)[0].values())
    assert told["trained_on"] == {
        "dataset": "Toy | set",
        "cases": 2,
        "subjects": 1,
        "cases_sha256": content_hash(TRAINING),
        "spacing_mm": {"from": [0.7, 0.8, 2.5], "to": [0.9, 0.8, 3.0]},
        "fold": 2,
        "seed": 7,
        "steps": 1500,
        "made_from": {"ingest": "0123456789abcdef"},
    }
    figures = {"dice": 0.81234, "dice_a": 0.9}
    assert told["validated_on"] == {"cases": 1, "subjects": 1, "figures": figures, "chose_the_weights": True}
    assert (told["licence"], told["authors"], told["intended_use"]) == ("", "", "")


def test_the_card_tells_the_facts(folder: Path) -> None:
    card = card_of(folder)
    for said in (
        "# Toy \\| set: segmentation of a, b",
        "U-Net in 3D, 1 encoding step, widths 4, 8",
        file_sha256(folder / WEIGHTS),
        f"{(folder / WEIGHTS).stat().st_size / 1e6:.3g} MB",
        f"| Parameters | {json.loads((folder / MODEL).read_text())['parameters']:,} |",
        "| a | 1 | 1 | | b | 4 | 4 |",
        "| 0 | T1 | mean 0 and standard deviation 1 in each image |",
        "resampled to 1 x 1 x 1.5 mm",
        "| Training cases | 2, of 1 subject |",
        "0.7 to 0.9 mm along R, 0.8 mm along A and 2.5 to 3 mm along S",
        "| Steps | 1,500 |",
        "| Seed | 7 |",
        "| Dice, mean over structures | 0.812 | | Dice, a | 0.900 |",
        "Measured on the 1 validation case of fold 2, of 1 subject",
        "The weights were chosen by these figures, which are therefore somewhat too good.",
        "| Licence of the weights | Not stated: the owner of the training data decides. |",
        "Not a medical device",
    ):
        assert said in card


def test_what_the_caller_says_is_on_the_card(tmp_path: Path) -> None:
    said = ExportConfig(licence="CC-BY-4.0", authors="A. Author", intended_use="Volumes of\na and b.")
    card = card_of(exported(tmp_path, export=said, chosen=False))
    for text in ("| Licence of the weights | CC-BY-4.0 |", "| Authors | A. Author |", "Volumes of a and b."):
        assert text in card
    assert "ot stated" not in card
    assert "The weights were not chosen by these figures." in card


@pytest.mark.parametrize("without", [{"figures": {}}, {"validation": ()}, {"figures": {"dice": float("nan")}}])
def test_a_model_that_was_not_measured_says_so(tmp_path: Path, without: dict[str, Any]) -> None:
    card = card_of(exported(tmp_path, **without))
    assert "None were measured while it was trained." in card
    assert "somewhat too good" not in card


def test_the_card_tells_by_which_value_a_region_is_written_and_each_normalisation(tmp_path: Path) -> None:
    regions = (Structure(name="whole", values=(1, 2), paint=1), Structure(name="core", values=(2,), paint=2))
    plan = plan_of(
        target=Regions(),
        labels=LabelSet(structures=regions),
        channels=(Channel(name="CT"), Channel(name="PET")),
        normalise=(Window(low=-100, high=240, mean=80.5, sd=30), Unchanged()),
    )
    card = card_of(exported(tmp_path, plan))
    assert "| whole | 1 | 1, 2 | | core | 2 | 2 |" in card
    assert "where two overlap" in card
    assert "| 0 | CT | values clipped to -100 to 240, minus 80.5, divided by 30 |" in card
    assert "| 1 | PET | nothing: values as they are |" in card


def test_names_take_no_table_apart(tmp_path: Path) -> None:
    plan = plan_of(labels=LabelSet.plain({"a|b\n# c": 1, "<script>": 2}))
    text = (exported(tmp_path, plan) / CARD).read_text()
    assert "| a\\|b # c | 1 | 1 |\n" in text
    assert "<script>" not in text
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


@pytest.mark.parametrize("channels", [1, 2])
def test_the_python_on_the_card_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int) -> None:
    plan = plan_of(channels=tuple(Channel(name=f"T{i}") for i in range(channels)), normalise=(ZScore(),) * channels)
    exported(tmp_path / "THIS_FOLDER", plan)
    scan = scan_of(channels=channels)
    for index, image in enumerate(scan.array):
        name = f"scan_{index:04d}.nii.gz" if channels > 1 else "scan.nii.gz"
        write_volume(tmp_path / name, Volume(image[None], scan.geometry))
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.*?)```", (tmp_path / "THIS_FOLDER" / CARD).read_text(), re.DOTALL)
    assert code
    exec(code[1], {})
    expected = Segmenter.load(tmp_path / "THIS_FOLDER")(scan)
    assert np.array_equal(read_volume(tmp_path / "labels.nii.gz").array, expected.array)


# ---- the self-test


def in_memory(seed: int = 0, **changes: Any) -> Segmenter:
    plan = plan_of(**changes)
    return Segmenter((network_of(plan, seed),), plan, EXACT)


def test_another_network_in_memory_fails(folder: Path) -> None:
    with pytest.raises(ArtifactError, match=r"draws \d+ of 1188 voxels otherwise than the network in memory") as caught:
        self_test(folder, in_memory(seed=1), scan_of())
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (folder / SELF_TEST).exists()


def test_weights_that_were_changed_and_signed_again_fail(folder: Path) -> None:
    tensors, _ = load_tensors(folder / WEIGHTS)
    name = next(name for name in tensors if name.startswith("decoder.heads.0") and name.endswith("weight"))
    tensors[name] = tensors[name] * 1.1
    save_tensors(folder / WEIGHTS, tensors, {})
    signed = json.loads((folder / MODEL).read_text()) | {"weights_sha256": file_sha256(folder / WEIGHTS)}
    (folder / MODEL).write_text(json.dumps(signed))
    with pytest.raises(ArtifactError, match="network in memory"):
        self_test(folder, in_memory(), scan_of())


def test_other_scores_fail_though_every_voxel_is_drawn_alike(folder: Path) -> None:
    changed = in_memory()
    with torch.no_grad():
        head = changed.networks[0].decoder.heads[0]
        head.weight.mul_(2)  # surer of the same
        head.bias.mul_(2)
    with pytest.raises(ArtifactError, match=r"draws 0 of 1188 voxels otherwise .*differ by up to 0\.\d"):
        self_test(folder, changed, scan_of(first=1.0))  # nothing is resampled


def test_another_plan_or_window_fails(folder: Path) -> None:
    other = in_memory(labels=LabelSet.plain({"a": 1, "c": 4}))
    with pytest.raises(ArtifactError, match="its plan or its window is not that of the training"):
        self_test(folder, other, scan_of())
    same = in_memory()
    with pytest.raises(ArtifactError, match="its plan or its window"):
        self_test(folder, Segmenter(same.networks, same.plan, WindowConfig(overlap=0.25, precision="fp32")), scan_of())
