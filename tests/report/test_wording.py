"""Numbers, names and lists as people read them."""

import math
from pathlib import Path

import pytest

from segpipe.report.wording import listed, name_of, number, p_value, shown, signed, span, unit_of, without_paths

MINUS, NARROW = "\N{MINUS SIGN}", "\N{NARROW NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.8571, 3, "0.857"),
        (-12345.6, 0, f"{MINUS}12{NARROW}346"),
        (-0.0001, 2, "0.00"),
        (math.nan, 2, "\N{EN DASH}"),
        (math.inf, 2, "\N{EN DASH}"),
    ],
)
def test_a_number_has_a_true_minus_groups_and_a_dash_where_undefined(value: float, digits: int, text: str) -> None:
    assert number(value, digits) == text


def test_digits_go_with_the_metric() -> None:
    assert [shown(0.12345, "dice"), shown(1.239, "hd95_mm"), shown(1234.5, "vol_ref_mm3")] == [
        "0.123",
        "1.24",
        f"1{NARROW}234",
    ]
    assert [shown(12.34, "vol_ref_mm3"), shown(1.234, "vol_ref_mm3")] == ["12.3", "1.23"]


def test_signs_and_intervals() -> None:
    assert [signed(3.2, 1), signed(-3.2, 1), signed(math.nan, 1)] == ["+3.2", f"{MINUS}3.2", "\N{EN DASH}"]
    assert span(0.8, 0.9, "dice") == "[0.800, 0.900]"
    assert span(math.nan, 0.9, "dice") == "\N{EN DASH}"


def test_names_and_units() -> None:
    assert [name_of("nsd_0.5mm"), name_of("hd95_mm"), name_of("dice")] == ["NSD at 0.5 mm", "HD95", "Dice"]
    assert [unit_of("vol_ref_mm3", 3), unit_of("vol_ref_mm3", 2), unit_of("dice", 3)] == ["mm³", "mm²", ""]


def test_p_values_and_lists() -> None:
    assert [p_value(0.0123), p_value(1e-9)] == ["p = 0.012", "p < 0.0001"]
    assert [listed(["a"]), listed(["a", "b", "c"]), listed(list("abcdefg"), 2)] == [
        "a",
        "a, b and c",
        "a, b and 5 more",
    ]


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("/home/jane/data set/imagesTr/a.nii.gz: is empty.", "imagesTr/a.nii.gz: is empty."),
        ("/mnt/other/b.nii.gz: is empty (see /var/log/x.log).", "b.nii.gz: is empty (see x.log)."),
        (r"C:\Users\jane\c.nii: no.", "c.nii: no."),
        ("set tolerance_mm / tolerance_degrees, or 3 mm/voxel", "set tolerance_mm / tolerance_degrees, or 3 mm/voxel"),
    ],
)
def test_messages_lose_the_folders_of_this_machine(said: str, left: str) -> None:
    assert without_paths(said, Path("/home/jane/data set")) == left
