"""Which structures a label map shows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from segpipe.imaging.labels import LabelSet, Structure, values_of

NESTED = LabelSet(
    structures=(
        Structure(name="whole", values=(1, 2, 4), paint=2),
        Structure(name="core", values=(1, 4), paint=1),
        Structure(name="enhancing", values=(4,), paint=4),
    )
)


def test_a_plain_set_lists_structures_by_value_without_background_and_ignore() -> None:
    labels = LabelSet.plain({"kidney": 7, "background": 0, "liver": 3, "unknown": 9}, ignore=9)
    assert labels.names == ("liver", "kidney")
    assert labels.values == (3, 7)
    assert labels.known == {0, 3, 7, 9}
    assert labels.groups() == {"liver": (3,), "kidney": (7,)}
    assert not labels.overlapping


def test_a_nested_set_knows_each_value_once() -> None:
    assert NESTED.values == (1, 2, 4)
    assert NESTED.known == {0, 1, 2, 4}
    assert NESTED.overlapping
    assert NESTED.groups()["core"] == (1, 4)


def test_a_set_needs_a_structure_and_names_are_unique() -> None:
    with pytest.raises(ValidationError, match="at least one structure"):
        LabelSet.plain({"background": 0})
    with pytest.raises(ValidationError, match="named twice"):
        LabelSet(structures=(Structure(name="a", values=(1,), paint=1), Structure(name="a", values=(2,), paint=2)))
    with pytest.raises(ValidationError):
        Structure(name="a", values=(0,), paint=1)


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(1, 60000), min_size=1, max_size=20), st.none() | st.integers(60001, 65000))
def test_numbers_are_consecutive_in_the_order_of_values_and_lead_back(values: set[int], ignore: int | None) -> None:
    labels = LabelSet.plain({f"s{value}": value for value in values}, ignore)
    array = np.array([0, *sorted(values), *([ignore] if ignore else [])], np.uint16)
    numbers = labels.indices(array, 255)
    assert numbers.tolist() == [*range(len(values) + 1), *([255] if ignore else [])]
    assert values_of(range(len(values) + 1), labels).tolist() == [0, *sorted(values)]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.uint16, np.int64])
def test_numbers_do_not_depend_on_the_type_of_the_file(dtype: type) -> None:
    labels = LabelSet.plain({"a": 5, "b": 100})
    array = np.array([[0, 100], [5, 5]], dtype)
    assert labels.indices(array, 255).tolist() == [[0, 2], [1, 1]]


def test_a_set_comes_back_from_json() -> None:
    assert LabelSet.model_validate_json(NESTED.model_dump_json()) == NESTED


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("left_kidney", "right_kidney"),
        ("Hippocampus-L", "Hippocampus-R"),
        ("lh.precuneus", "rh.precuneus"),
        ("ctx-lh-cuneus", "ctx-rh-cuneus"),
        ("kidney left", "kidney right"),
        ("r_femur", "l_femur"),
        ("LeftThalamus", "RightThalamus"),
        ("rib_left_1", "rib_right_1"),
        ("Left-Lateral-Ventricle", "Right-Lateral-Ventricle"),
        ("left", "right"),
    ],
)
def test_names_of_two_sides_are_partners(one: str, other: str) -> None:
    labels = LabelSet.plain({one: 4, "spine": 5, other: 9})
    assert labels.mirror_names() == {one: other, other: one}
    assert labels.mirror_pairs() == ((4, 9),)
    assert labels.one_sided() == ()
    assert labels.unpaired() == ()


@pytest.mark.parametrize(
    "name", ["spine", "cleft_lip", "bright_spot", "left_to_right_shunt", "lateral", "model_l_shape", "L1", "rl"]
)
def test_names_that_tell_no_side_have_no_partner_and_need_none(name: str) -> None:
    labels = LabelSet.plain({name: 1, "right_kidney": 2, "left_kidney": 3})
    assert labels.one_sided() == ()
    assert labels.mirror_pairs() == ((2, 3),)


def test_a_side_without_a_partner_is_named() -> None:
    labels = LabelSet.plain({"left_kidney": 1, "right_kidney": 2, "lung_middle_lobe_right": 3, "hippocampus_L": 4})
    assert labels.one_sided() == ("lung_middle_lobe_right", "hippocampus_L")
    assert labels.mirror_pairs() == ((1, 2),)


def test_left_and_right_of_the_heart_are_no_mirror_images() -> None:
    labels = LabelSet.plain(
        {"left_ventricle": 1, "right_ventricle": 2, "heart_atrium_left": 3, "heart_atrium_right": 4}
    )
    assert labels.mirror_pairs() == ()
    assert labels.one_sided() == labels.names


def test_of_nested_structures_those_values_are_partners_whose_structures_are() -> None:
    labels = LabelSet(
        structures=(
            Structure(name="kidneys", values=(1, 2, 3, 4), paint=1),
            Structure(name="right_tumour", values=(1,), paint=1),
            Structure(name="left_tumour", values=(4,), paint=4),
            Structure(name="left_kidney", values=(2, 4), paint=2),
            Structure(name="right_kidney", values=(3, 1), paint=3),
        )
    )
    assert labels.mirror_pairs() == ((1, 4), (2, 3))
    assert labels.unpaired() == ()


@pytest.mark.parametrize("right", [(3, 4), (3,)])
def test_values_that_no_name_tells_apart_have_no_partner(right: tuple[int, ...]) -> None:
    sides = (("left_kidney", (1, 2)), ("right_kidney", right))
    labels = LabelSet(structures=tuple(Structure(name=name, values=v, paint=v[0]) for name, v in sides))
    assert labels.mirror_names() == {"left_kidney": "right_kidney", "right_kidney": "left_kidney"}
    assert labels.mirror_pairs() == ()
    assert labels.unpaired() == labels.names
