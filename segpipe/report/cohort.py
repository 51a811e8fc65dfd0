"""The way of the cases: found, set aside and why, divided, scored."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

from segpipe.dataset.manifest import Case
from segpipe.report.material import Material
from segpipe.report.svg import element, figure, label_at, line
from segpipe.report.wording import counted, without_paths

SIZE = (760, 306)
BOX = (200, 50)
FILE_NAME = re.compile(r"^\S+: ")
NUMBER = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True)
class Reason:
    """One kind of fault, in the words of its first case, and the cases that have it."""

    words: str
    cases: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """A number of cases, as the diagram shows it."""

    title: str
    cases: int
    subjects: int | None
    note: str = ""

    @property
    def count(self) -> str:
        """Cases, and subjects where these are fewer."""
        subjects = "" if self.subjects in (None, self.cases) else f" of {counted(self.subjects or 0, 'subject')}"
        return counted(self.cases, "case") + subjects


def reasons(material: Material) -> list[Reason]:
    """Return why cases were set aside, the most frequent reason first; numbers and file names make no new reason."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for refusal in material.dataset.quarantined:
        words = FILE_NAME.sub("", without_paths(refusal.reason, material.dataset.root))
        groups.setdefault(NUMBER.sub("#", words), []).append((refusal.case, words))
    found = [Reason(group[0][1], tuple(case for case, _ in group)) for group in groups.values()]
    return sorted(found, key=lambda reason: (-len(reason.cases), reason.words))


def groups(material: Material) -> dict[str, Group]:
    """Return the groups of the diagram by name; an empty one has no cases."""
    data = material.dataset
    aside = len(data.quarantined)
    test = data.part("test")
    scored = [case for case in test if case.id in material.scores.cases and case.id not in material.scores.errors]
    train, validate = (len(material.divided.get(part, ())) for part in ("training", "validation"))
    division = f"training {train} · validation {validate}" if train else f"{len(data.folds)} folds"
    if material.parts:
        develop = [case.id for case in data.part("develop") if case.id in material.scores.cases]
        division = f"scored out of fold {sum(case not in material.scores.errors for case in develop)}"
    return {
        "found": Group("Found", len(data.cases) + aside, None),
        "aside": Group("Set aside", aside, None),
        "unlabelled": _group("Without reference", data.part("unlabelled")),
        "usable": _group("Usable, with reference", [*data.part("develop"), *test]),
        "develop": _group("To develop", data.part("develop"), division),
        "test": _group("Untouched test", test, f"scored {len(scored)} · not scored {len(test) - len(scored)}"),
    }


def _group(title: str, cases: Iterable[Case], note: str = "") -> Group:
    cases = list(cases)
    return Group(title, len(cases), len({case.subject for case in cases}), note)


def diagram(material: Material) -> Markup:
    """Return the diagram of the cohort, as a flow from top to bottom."""
    parts = groups(material)
    middle, right = SIZE[0] / 2, SIZE[0] - BOX[0] / 2 - 2
    drawn = [
        line(middle, 60, middle, 196, "flow"),
        _arrow((middle, 89), (right - BOX[0] / 2, 89)),
        line(170, 196, 590, 196, "flow"),
        _arrow((170, 196), (170, 226)),
        _arrow((590, 196), (590, 226)),
        _box(parts["found"], middle, 10),
        _box(parts["aside"], right, 64, "quiet"),
        _box(parts["usable"], middle, 118),
        _box(parts["develop"], 170, 226),
        _box(parts["test"], 590, 226, "strong"),
    ]
    if parts["unlabelled"].cases:
        left = BOX[0] / 2 + 2
        drawn += [
            _arrow((middle, 89), (left + BOX[0] / 2, 89)),
            _box(parts["unlabelled"], left, 64, "quiet"),
        ]
    said = "; ".join(f"{group.title}: {group.count} {group.note}".strip() for group in parts.values())
    return figure(SIZE, f"Flow of the cases. {said}", *drawn, class_="chart narrow")


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> Markup:
    """Return an arrow along one axis."""
    (x1, y1), (x2, y2) = start, end
    along = (1 if x2 > x1 else -1) if y1 == y2 else 0
    down = 0 if along else 1
    base = (x2 - 7 * along, y2 - 7 * down)
    corners = [(x2, y2), (base[0] + 4 * down, base[1] + 4 * along), (base[0] - 4 * down, base[1] - 4 * along)]
    head = element("polygon", points=" ".join(f"{x:g},{y:g}" for x, y in corners), class_="head")
    return element("g", line(x1, y1, *base, "flow"), head)


def _box(group: Group, x: float, y: float, class_: str = "") -> Markup:
    width, height = BOX
    height += 16 if group.note else 0
    parts = [
        element("rect", x=x - width / 2, y=y, width=width, height=height, rx=6),
        label_at(x, y + 20, group.title, "title", "middle"),
        label_at(x, y + 38, group.count, "", "middle"),
    ]
    if group.note:
        parts.append(label_at(x, y + 55, group.note, "tick", "middle"))
    return element("g", *parts, class_=f"box {class_}".strip())
