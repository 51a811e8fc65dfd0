"""The shapes beside a model: they come back from their files, judge maps on any grid, and name what is damaged."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from segpipe.core.errors import ArtifactError
from segpipe.imaging.labels import LabelSet
from segpipe.imaging.volume import Volume
from segpipe.nets.encoder import EncoderSpec
from segpipe.nets.precision import laid_out
from segpipe.nets.shape import ShapeNetwork, ShapeSpec
from segpipe.predict.seen import Segmented
from segpipe.predict.segmenter import Segmenter
from segpipe.predict.shapes import SHAPES, WEIGHTS, ShapeChecker, load_shapes, save_shapes, shape_checker
from segpipe.quality.curve import Curve
from segpipe.quality.frame import plan_frame, reach_of
from segpipe.quality.known import PLAUSIBLE, KnownShapes, known_shapes
from segpipe.quality.shape import Shapes
from tests.bodies import LABELS, bodies, body, half_lost
from tests.predict.test_segmenter import plan_of, segmenter


def known_and_network() -> tuple[KnownShapes, ShapeNetwork]:
    cases = bodies(24)
    frame = plan_frame(LABELS, [reach_of(one) for one in cases], (2.0,) * 3, 2)
    known = known_shapes(frame, cases, [str(number) for number in range(24)])
    lines = {"redrawn": Curve(at=(0.0, 1.0), value=(0.0, 1.0)), "form": Curve(at=(-3.0, -1.0), value=(0.3, 1.0))}
    known = known.model_copy(update=lines)
    torch.manual_seed(0)
    kernels = frame.topology.kernels
    encoder = EncoderSpec(
        in_channels=3, widths=(4, 8, 16)[: len(kernels)], strides=frame.topology.strides, kernels=kernels
    )
    return known, laid_out(ShapeSpec(encoder=encoder, size=frame.size, units=4).build(), 3, "cpu").eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shapes")
    save_shapes(path, *known_and_network())
    return path


def loaded(folder: Path) -> ShapeChecker:
    checker = load_shapes(folder, "cpu", "fp32")
    assert checker is not None
    return checker


def seen(one: Shapes) -> Segmented:
    labels = Volume(one.classes[None], one.geometry)
    return Segmented("case", labels, labels, labels)


def test_what_is_saved_comes_back_and_is_no_code(folder: Path) -> None:
    known, network = known_and_network()
    checker = loaded(folder)
    assert checker.known == known
    window = known.frame.cut(body(3))[None]
    with torch.inference_mode():
        wanted = network(torch.nn.functional.one_hot(torch.from_numpy(window).long(), 3).movedim(-1, 1).float()).argmax(
            1
        )
    np.testing.assert_array_equal(checker.redraw(window), wanted.numpy())
    assert {path.name for path in folder.iterdir()} == {SHAPES, WEIGHTS}


def test_a_prediction_is_judged_alike_on_every_grid(folder: Path) -> None:
    checker, one = loaded(folder), body(4)
    first = checker(seen(one))
    labels = Volume(one.classes[None], one.geometry)
    turned = Volume(
        np.flip(labels.array.transpose(0, 2, 3, 1), 1), one.geometry.permuted([1, 2, 0]).flipped([True, False, False])
    )
    again = checker(Segmented("case", labels, labels, turned))
    assert [check.name for check in again] == [check.name for check in first]
    assert [check.value for check in again] == pytest.approx([check.value for check in first], nan_ok=True)


def test_a_worse_prediction_is_told_so_in_words(folder: Path) -> None:
    checker, one = loaded(folder), body(4)
    good, bad = checker(seen(one))[0], checker(seen(half_lost(one)))[0]
    assert good.name == PLAUSIBLE
    assert bad.value < good.value
    assert "below reference masks" in bad.words


def test_other_passes_are_judged_too(folder: Path) -> None:
    checker, one = loaded(folder), body(4)
    other = Volume(half_lost(one).classes[None], one.geometry)
    labels = Volume(one.classes[None], one.geometry)
    parts = checker.parts(Segmented("case", labels, labels, labels, (labels, other)))
    assert 0.5 < parts["front"].agreement < 1


def test_a_folder_without_shapes_has_no_checker(tmp_path: Path) -> None:
    assert load_shapes(tmp_path, "cpu") is None


def _cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _later(path: Path) -> None:
    described = json.loads(path.read_text())
    described["known"]["format"] = 2
    path.write_text(json.dumps(described))


@pytest.mark.parametrize(
    ("name", "spoil", "told"),
    [
        (SHAPES, _cut_off, r"shapes\.json: damaged"),
        (SHAPES, _later, r"shapes\.json: damaged \(format\)"),
        (WEIGHTS, _cut_off, r"shapes\.safetensors: the weights are missing or not those"),
        (WEIGHTS, Path.unlink, r"shapes\.safetensors: the weights are missing"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, spoil: Callable[[Path], None], told: str) -> None:
    save_shapes(tmp_path, *known_and_network())
    spoil(tmp_path / name)
    with pytest.raises(ArtifactError, match=told):
        load_shapes(tmp_path, "cpu")


def test_shapes_of_other_structures_are_refused(folder: Path) -> None:
    with pytest.raises(ArtifactError, match=r"shapes\.json: is about other structures"):
        shape_checker(folder, segmenter())
    same: Segmenter = segmenter(plan_of(LabelSet.plain({"front": 1, "back": 2})))
    assert shape_checker(folder, same) is not None
