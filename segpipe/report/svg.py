"""SVG by hand: escaped elements, linear scales and axes; colours come from the page's style sheet."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from segpipe.report.wording import number

Attribute = str | float
WIDTH = 540
"""Units across a chart that takes half of the page."""
DIGIT = 6.4
"""Units across a digit of an axis."""
ROOM = 0.04
"""Share of a range that is left free at either end."""


def element(name: str, *children: str, **attributes: Attribute) -> Markup:
    """Return an element; text is escaped, ``class_`` and ``stroke_width`` are written as SVG spells them."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_text(value))}"' for key, value in attributes.items()
    )
    inside = Markup("").join(children)
    # closed by a tag of its own even if empty: HTML, unlike SVG, takes "<i/>" for an open tag
    return Markup(f"<{name}{written}>{inside}</{name}>")


def figure(size: tuple[float, float], label: str, *children: str, class_: str = "chart") -> Markup:
    """Return a whole picture; ``label`` is what a screen reader says of it."""
    width, height = size
    return element(
        "svg", *children, class_=class_, viewBox=f"0 0 {_text(width)} {_text(height)}", role="img", aria_label=label
    )


def label_at(x: float, y: float, text: str, class_: str = "", anchor: str = "start") -> Markup:
    """Return a text with its foot at (x, y)."""
    extra = {"class_": class_} if class_ else {}
    return element("text", text, x=x, y=y, text_anchor=anchor, **extra)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """Return a straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def path(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    """Return a line through points."""
    return element("path", d="M" + "L".join(f"{_text(x)} {_text(y)}" for x, y in points), class_=class_)


def dot(x: float, y: float, case: int, class_: str = "dot") -> Markup:
    """Return the mark of a case, by its number in the table."""
    # written out: a report on a thousand cases has tens of thousands of these
    return Markup(f'<circle class="{class_}" cx="{_text(x)}" cy="{_text(y)}" r="3" data-c="{case}"/>')


@dataclass(frozen=True)
class Scale:
    """From a range of values to a range of places."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the place of a value; beyond the range it is the rim."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[tuple[float, str]]:
        """Return round values in the range and their texts."""
        rough = (self.high - self.low) / about
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
        digits = next((n for n in range(9) if abs(round(step, n) - step) < step * 1e-6), 9)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        values = [index * step for index in range(first, last + 1)]
        return [(value, number(value, digits)) for value in values]


def scale_over(
    values: Sequence[float], places: tuple[float, float], bounds: tuple[float, float] = (-math.inf, math.inf)
) -> Scale:
    """Return a scale over finite values with some room at either end, though not beyond ``bounds``."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    room = (high - low) * ROOM
    if room == 0:
        room = abs(high) * 0.1 or 0.5
    low, high = max(low - room, bounds[0]), min(high + room, bounds[1])
    return Scale(low, high if high > low else low + 1, *places)


def bottom_axis(scale: Scale, y: float, label: str) -> Markup:
    """Return a horizontal axis at ``y`` with its label beneath."""
    parts = [line(scale.start, y, scale.end, y, "axis")]
    parts += [label_at(scale(value), y + 16, text, "tick", "middle") for value, text in scale.ticks()]
    parts.append(label_at((scale.start + scale.end) / 2, y + 34, label, "tick", "middle"))
    return element("g", *parts)


def left_axis(scale: Scale, across: tuple[float, float], label: str) -> Markup:
    """Return a vertical axis with lines across the picture, its label turned."""
    left, right = across
    parts = []
    for value, text in scale.ticks():
        y = scale(value)
        parts += [line(left, y, right, y, "grid"), label_at(left - 8, y + 4, text, "tick", "end")]
    middle = (scale.start + scale.end) / 2
    # beside the longest number, and for short ones where it stands in every chart
    widest = max((len(text) for _, text in scale.ticks()), default=0) * DIGIT
    beside = min(12.0, left - 14 - widest)
    turned = element(
        "text",
        label,
        class_="tick",
        text_anchor="middle",
        transform=f"translate({_text(beside)} {_text(middle)}) rotate(-90)",
    )
    return element("g", *parts, turned)


def _text(value: Attribute) -> str:
    if isinstance(value, str):
        return value
    rounded = f"{value:.1f}"
    return rounded.removesuffix(".0") if rounded != "-0.0" else "0"
