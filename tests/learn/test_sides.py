import numpy as np
import pytest
import torch

from segpipe.core.errors import ConfigError
from segpipe.imaging.labels import LabelSet, Structure
from segpipe.imaging.targets import IGNORED, Classes, Regions, SignedDistance, Target
from segpipe.learn.sides import refuse_lone_sides, swap_for

LABELS = LabelSet.plain({"left_kidney": 7, "spine": 3, "right_kidney": 9, "unknown": 20}, ignore=20)
KIDNEYS = LabelSet(
    structures=(
        Structure(name="left_kidney", values=(1, 2), paint=1),
        Structure(name="left_tumour", values=(2,), paint=2),
        Structure(name="right_kidney", values=(3, 4), paint=3),
        Structure(name="right_tumour", values=(4,), paint=4),
    )
)


@pytest.mark.parametrize("target", [Classes(), Regions(), SignedDistance()])
@pytest.mark.parametrize("labels", [LABELS, KIDNEYS], ids=["plain", "nested"])
def test_a_swapped_map_is_that_of_swapped_labels(target: Target, labels: LabelSet) -> None:
    values = np.asarray(sorted(labels.known))
    array = values[np.random.default_rng(0).integers(len(values), size=(1, 8, 9, 10))]
    partner = {value: value for value in values} | {a: b for p in labels.mirror_pairs() for a, b in (p, p[::-1])}
    traded = np.vectorize(partner.get)(array)
    assert (traded != array).any()
    swap = swap_for(target, labels)
    assert swap is not None
    before, wanted = (torch.from_numpy(target.encode(one, labels, (1.0, 1.0, 1.0))) for one in (array, traded))
    found = swap(before)
    assert torch.equal(found.nan_to_num(9), wanted.nan_to_num(9))
    assert found.dtype == before.dtype
    assert torch.equal(swap(found).nan_to_num(9), before.nan_to_num(9))


def test_what_nobody_annotated_stays_so() -> None:
    swap = swap_for(Classes(), LABELS)
    assert swap is not None
    assert swap(torch.tensor([[0, 1, 2, 3, IGNORED]], dtype=torch.uint8)).tolist() == [[0, 1, 3, 2, IGNORED]]


@pytest.mark.parametrize("target", [Classes(), Regions(), SignedDistance()])
def test_without_sides_there_is_nothing_to_swap(target: Target) -> None:
    labels = LabelSet.plain({"anterior": 1, "posterior": 2})
    assert swap_for(target, labels) is None
    refuse_lone_sides(target, labels, (0,))


def test_a_side_without_a_partner_is_refused_only_where_left_and_right_are_mirrored() -> None:
    labels = LabelSet.plain({"left_kidney": 1, "right_kidney": 2, "spleen_L": 3, "lung_left": 4})
    with pytest.raises(ConfigError, match=r"'spleen_L' names a side \(as 1 more do\).*mirror_axes=\[\]"):
        refuse_lone_sides(Classes(), labels, (0, 1))
    refuse_lone_sides(Classes(), labels, (1, 2))
    refuse_lone_sides(Classes(), LABELS, (0,))


def test_values_that_no_name_tells_apart_are_refused_as_classes_and_fine_as_regions() -> None:
    labels = LabelSet(
        structures=(
            Structure(name="left_kidney", values=(1, 2), paint=1),
            Structure(name="right_kidney", values=(3, 4), paint=3),
        )
    )
    with pytest.raises(ConfigError, match="left_kidney"):
        refuse_lone_sides(Classes(), labels, (0,))
    refuse_lone_sides(Regions(), labels, (0,))
    swap = swap_for(Regions(), labels)
    assert swap is not None
    assert swap.order == (1, 0)
