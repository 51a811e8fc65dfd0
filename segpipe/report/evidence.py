"""What a checklist item is answered from: the run, and what its authors stated; and how an answer is given."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from segpipe.report.material import Material
from segpipe.report.study import StudyConfig

Status = Literal["run", "stated", "partly", "authors", "absent"]
WORDS: dict[Status, str] = {
    "run": "from the run",
    "stated": "stated by the authors",
    "partly": "partly: authors complete",
    "authors": "for the authors",
    "absent": "not done in this run",
}


@dataclass(frozen=True)
class Answer:
    """How far an item is fulfilled, in words, and the chapter where it is."""

    status: Status
    text: str = ""
    place: str = ""
    """Anchor of the chapter; empty: nowhere in this report."""


@dataclass(frozen=True)
class Evidence:
    """All that a rule may look at."""

    material: Material
    study: StudyConfig
    pictures: int
    """Cases of which there is a picture."""
    chapters: Collection[str]
    """Anchors that the page has."""

    def stated(self, *names: str, otherwise: Answer | None = None) -> Answer:
        """Return that the authors stated all these things, or some, or that it is for them to do so."""
        given = [name for name in names if str(getattr(self.study, name)).strip()]
        if len(given) == len(names):
            return Answer("stated", "", "study")
        missing = [name.replace("_", " ") for name in names if name not in given]
        keys = ", ".join(f"report.study.{name}" for name in names if name not in given)
        if given:
            return Answer("partly", f"Not stated: {', '.join(missing)} ({keys}).", "study")
        return otherwise or Answer("authors", f"Set {keys}.")

    @cached_property
    def tested(self) -> list[str]:
        """Subjects with scores."""
        subjects, scores = self.material.dataset.subjects, self.material.scores
        return sorted({subjects.get(case, case) for case in scores.cases if case not in scores.errors})

    @cached_property
    def has_intervals(self) -> bool:
        """Whether every main figure of every structure that has a mean over two subjects has an interval too."""
        scores = self.material.scores
        figures = [self.material.figure(metric, name) for name in scores.structures for metric in scores.main]
        known = [figure for figure in figures if figure is not None and math.isfinite(figure.mean)]
        return bool(known) and len(self.tested) > 1 and all(math.isfinite(f.low) or f.n < 2 for f in known)

    @cached_property
    def leaks(self) -> list[str]:
        """Subjects, and contents of image files, that lie in the test part and in another one."""
        test, others = self.material.dataset.part("test"), self.material.dataset.part("develop")
        subjects = {case.subject for case in test} & {case.subject for case in others}
        seen = {image.sha256 for case in others for image in case.images}
        files = {case.id for case in test if any(image.sha256 in seen for image in case.images)}
        return sorted(subjects | files)

    @cached_property
    def own_subjects(self) -> bool:
        """Whether every case is its own subject: known to be so, or not known to be otherwise."""
        subjects = self.material.dataset.subjects
        return len(set(subjects.values())) == len(subjects)

    @cached_property
    def libraries(self) -> dict[str, str]:
        """Versions of libraries, as the receipts hold them."""
        found: dict[str, str] = {}
        for receipt in self.material.receipts.values():
            told = receipt("made.libraries")
            found |= told if isinstance(told, dict) else {}
        return found
