"""Label map -> target map and back: what is drawn perfectly decodes to what was annotated."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from pydantic import TypeAdapter
from scipy.spatial.distance import cdist

from segpipe.core.section import members
from segpipe.imaging.labels import LabelSet, Structure
from segpipe.imaging.targets import IGNORED, Classes, Regions, SignedDistance, Target

quick = settings(max_examples=60, deadline=None)
NESTED = LabelSet(
    structures=(
        Structure(name="whole", values=(1, 2, 4), paint=2),
        Structure(name="core", values=(1, 4), paint=1),
        Structure(name="enhancing", values=(4,), paint=4),
    ),
    ignore=9,
)
ORGANS = LabelSet.plain({"a": 3, "b": 17, "c": 4000}, ignore=9)


@st.composite
def plain_cases(draw: st.DrawFn) -> tuple[np.ndarray, LabelSet]:
    """Return a label map (1, *S) of 1 to 5 structures with any values, and their set."""
    values = draw(st.lists(st.integers(1, 60000), min_size=1, max_size=5, unique=True))
    labels = LabelSet.plain({f"s{value}": value for value in values})
    shape = draw(array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=6))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    return rng.choice([0, *values], (1, *shape)).astype(np.int32), labels


def nested_case(seed: int, shape: tuple[int, ...] = (7, 8, 9)) -> np.ndarray:
    return np.random.default_rng(seed).choice([0, 1, 2, 4], (1, *shape)).astype(np.int32)


def perfect(target: Target, encoded: np.ndarray, channels: int) -> np.ndarray:
    """Return the scores of a network that draws exactly what it should."""
    if isinstance(target, Classes):
        return (np.arange(channels).reshape(-1, *[1] * (encoded.ndim - 1)) == encoded).astype(np.float32) * 8 - 4
    return encoded.astype(np.float32) * 8 - 4 if isinstance(target, Regions) else encoded


@quick
@given(plain_cases(), st.sampled_from([Classes(), Regions(), SignedDistance(), SignedDistance(clip_mm=0.5)]))
def test_decoding_undoes_encoding_for_any_label_values(case: tuple[np.ndarray, LabelSet], target: Target) -> None:
    array, labels = case
    encoded = target.encode(array, labels, (0.7, 1.0, 2.5)[: array.ndim - 1])
    scores = perfect(target, encoded, target.channels(labels))
    assert scores.shape == (target.channels(labels), *array.shape[1:])
    assert np.array_equal(target.decode(scores, labels), array[0])


@pytest.mark.parametrize("target", [Regions(), SignedDistance()])
@pytest.mark.parametrize("seed", range(5))
def test_decoding_undoes_encoding_for_nested_regions(target: Target, seed: int) -> None:
    array = nested_case(seed)
    encoded = target.encode(array, NESTED, (1, 1, 3))
    assert np.array_equal(target.decode(perfect(target, encoded, 3), NESTED), array[0])


def test_class_numbers_run_from_0_without_gaps() -> None:
    array = np.array([[[0, 3, 17], [4000, 9, 3]]])
    encoded = Classes().encode(array, ORGANS, (1, 1))
    assert encoded.tolist() == [[[0, 1, 2], [3, IGNORED, 1]]]
    assert encoded.dtype == np.uint8
    assert Classes().channels(ORGANS) == 4


def test_regions_overlap_where_structures_do() -> None:
    array = np.array([[[0, 2, 1, 4, 9]]])
    encoded = Regions().encode(array, NESTED, (1, 1))
    assert encoded[:, 0].tolist() == [[0, 1, 1, 1, 255], [0, 0, 1, 1, 255], [0, 0, 0, 1, 255]]
    assert encoded.dtype == np.uint8
    assert Regions().channels(NESTED) == 3


def test_a_region_is_where_its_score_is_above_0_and_the_later_one_stays() -> None:
    scores = np.array([[[0.0, 0.1, 5]], [[-1, -1, 0.1]], [[-1, -1, -1]]])
    assert Regions().decode(scores, NESTED).tolist() == [[0, 2, 1]]


def test_unannotated_voxels_are_marked_in_every_target() -> None:
    array = np.array([[[0, 3, 9, 9]]])
    assert (Classes().encode(array, ORGANS, (1, 1))[0, 0] == IGNORED).tolist() == [False, False, True, True]
    assert (Regions().encode(array, ORGANS, (1, 1))[:, 0] == IGNORED).tolist() == [[False, False, True, True]] * 3
    distance = SignedDistance().encode(array, ORGANS, (1, 1))
    assert np.isnan(distance[:, 0]).tolist() == [[False, False, True, True]] * 3


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 3.0)])
def test_signed_distance_is_the_distance_to_the_nearest_voxel_on_the_other_side_in_mm(
    spacing: tuple[float, float],
) -> None:
    array = np.random.default_rng(0).choice([0, 3, 17], (1, 9, 8), p=[0.7, 0.2, 0.1])
    found = SignedDistance(clip_mm=4.0).encode(array, ORGANS, spacing)
    points = np.indices((9, 8)).reshape(2, -1).T * spacing
    for channel, value in enumerate((3, 17)):
        mask = (array[0] == value).ravel()
        wanted = np.where(mask, -cdist(points, points[~mask]).min(axis=1), cdist(points, points[mask]).min(axis=1))
        assert np.allclose(found[channel].ravel(), np.clip(wanted / 4.0, -1, 1), atol=1e-6)
    assert (found[2] == 1).all()  # the third structure is nowhere
    assert found.dtype == np.float32


def test_a_structure_that_fills_the_grid_is_as_deep_as_distances_are_told() -> None:
    assert (SignedDistance().encode(np.full((1, 3, 3), 3), ORGANS, (1, 1))[0] == -1).all()


def test_of_two_predicted_distances_the_deeper_one_wins() -> None:
    scores = np.array([[[-0.1, -0.4, 0.2]], [[-0.3, 0.1, 0.1]], [[1, 1, 1]]], np.float32)
    assert SignedDistance().decode(scores, ORGANS).tolist() == [[17, 3, 0]]


def test_every_target_gives_values_that_a_prediction_is_written_with() -> None:
    adapter = TypeAdapter(Target)
    for kind in members(Target):
        target = adapter.validate_python({"kind": kind.model_fields["kind"].default})
        scores = np.random.default_rng(0).standard_normal((target.channels(ORGANS), 4, 5)).astype(np.float32)
        found = target.decode(scores, ORGANS)
        assert found.dtype == np.uint16
        assert found.shape == (4, 5)
        assert set(np.unique(found)) <= {0, 3, 17, 4000}
