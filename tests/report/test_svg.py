"""Escaping, scales and ticks."""

import pytest
from markupsafe import Markup

from segpipe.report.svg import Scale, element, figure, scale_over


def test_text_and_attributes_are_escaped_and_markup_is_not() -> None:
    written = element("text", "<b>&", Markup("<i></i>"), class_='a"b', stroke_width=1.25)
    assert written == '<text class="a&#34;b" stroke-width="1.2">&lt;b&gt;&amp;<i></i></text>'


def test_an_empty_element_is_closed() -> None:
    assert element("i", class_="key") == '<i class="key"></i>'


def test_a_figure_says_what_it_shows() -> None:
    assert 'role="img" aria-label="A &lt; B"' in figure((10, 20), "A < B")


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (0.0, 1.0, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (1000.0, 2200.0, ["1\N{NARROW NO-BREAK SPACE}000", "1\N{NARROW NO-BREAK SPACE}250"]),
        (-0.5, 0.5, ["\N{MINUS SIGN}0.4", "\N{MINUS SIGN}0.2", "0.0", "0.2", "0.4"]),
    ],
)
def test_ticks_are_round_and_have_no_digit_too_many(low: float, high: float, texts: list[str]) -> None:
    found = [text for _, text in Scale(low, high, 0, 100).ticks()]
    assert found[: len(texts)] == texts


def test_a_scale_holds_every_value_and_stops_at_its_bounds() -> None:
    scale = scale_over([0.5, 0.99], (100, 300), (0.0, 1.0))
    assert (scale.low < 0.5, scale.high) == (True, 1.0)
    assert scale(5.0) == 300


@pytest.mark.parametrize("values", [[], [3.0], [0.0, 0.0], [-2.0, -2.0]])
def test_a_scale_over_one_value_or_none_has_a_length(values: list[float]) -> None:
    scale = scale_over(values, (0, 10), (-5, 5))
    assert scale.high > scale.low
    assert scale.ticks()
