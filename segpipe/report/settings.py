"""What the report shows, and how much of it."""

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat

from segpipe.core.section import Section
from segpipe.report.study import StudyConfig


class MontageCases(Section):
    """How many cases are shown in pictures."""

    worst: NonNegativeInt = 6
    """Those with the lowest mean Dice."""
    median: NonNegativeInt = 1
    """Those in the middle."""
    best: NonNegativeInt = 1
    """Those with the highest mean Dice."""


class ReportConfig(Section):
    """What is written for people."""

    title: str | None = None
    """The heading; empty: the name of the data set."""
    study: StudyConfig = StudyConfig()
    """What the authors state of the study: the report opens with it, and the checklist is filled from it."""
    montage_cases: MontageCases = MontageCases()
    """Cases shown in pictures."""
    channel: NonNegativeInt = 0
    """Image channel shown, counted from 0."""
    margin_mm: NonNegativeFloat = 10.0
    """Shown around a structure. Pictures never show more of an image than this."""
    viewer: bool = True
    """Whether cases can be leafed through slice by slice; a click on a case opens it."""
    viewer_cases: NonNegativeInt = 250
    """How many cases the viewer holds at most, the worst first; those in pictures are among them."""
    viewer_megabytes: PositiveFloat = 10.0
    """Room for all volumes of the viewer, at most; large ones are made coarser until they fit."""
    viewer_limit_mm: PositiveFloat = 140.0
    """A part of an image that is larger than this along every axis is left out of the viewer: from a whole
    head a face can be recognised."""
    pdf: bool = True
    """Whether the same is written as report.pdf, where a Chromium, Chrome or Edge browser is installed to print it."""
