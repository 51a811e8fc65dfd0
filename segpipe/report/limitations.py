"""Limitations, drafted by rules from what this run was; whoever publishes it has to add what no rule can know."""

import math
from collections.abc import Iterator

import numpy as np

from segpipe.report.data_table import sites_of
from segpipe.report.material import Material
from segpipe.report.study import StudyConfig
from segpipe.report.wording import counted, listed, name_of, number, percent

FEW = 50
"""Test subjects below which a study is small."""
COARSE = 2.0
"""Ratio of the coarsest to the finest spacing from which distances depend on the direction."""
TINY_VOXELS = 5.0
"""Radius in voxels of a ball below which one voxel of rim moves the Dice by more than 0.1."""


def limitations(material: Material, study: StudyConfig) -> list[str]:
    """Return one sentence or two for each limitation; the authors' own come first."""
    drafted = (
        *([" ".join(study.limitations.split())] if study.limitations.strip() else []),
        *_subjects(material),
        *_sites(material, study),
        *_reference(study),
        *_grid(material),
        *_undefined(material),
        *_left_out(material),
        *_trainings(material),
    )
    return list(drafted)


def _subjects(material: Material) -> Iterator[str]:
    subjects = material.dataset.subjects
    tested = {subjects.get(case, case) for case in material.scores.cases if case not in material.scores.errors}
    if 0 < len(tested) < FEW:
        figure = material.figure("dice")
        known = figure is not None and math.isfinite(figure.low)
        span = f"; the {percent(material.confidence)} interval of the mean Dice is"
        width = f"{span} {number(figure.high - figure.low, 3)} wide" if figure and known else ""
        yield (
            f"Only {counted(len(tested), 'subject')} {'was' if len(tested) == 1 else 'were'} tested{width}. "
            "Failures of one case in a hundred will hardly have shown."
        )
    if len(set(subjects.values())) == len(subjects):
        yield (
            "Every case was counted as a subject of its own. If some are scans of one person, parts of the data are "
            "not independent and the intervals are too narrow."
        )


def _sites(material: Material, study: StudyConfig) -> Iterator[str]:
    if not study.external_test:
        yield (
            "All test cases come from the same data set as the training cases: no external set was tested, so nothing "
            "is known of other institutions, scanners and protocols."
        )
    sites = study.sites or sites_of(material.dataset.cases)
    if sites is None:
        yield "From how many institutions the images come is not known to the report."
    elif sites == 1:
        yield "All images come from one institution."


def _reference(study: StudyConfig) -> Iterator[str]:
    if study.raters == 1:
        yield (
            "Each reference was drawn by one rater: how far two people would differ is not known, and a model cannot "
            "be told to be better or worse than that."
        )
    elif study.raters is None:
        yield (
            "How many raters drew the references, and how well they agree, is not known to the report; differences of "
            "Dice smaller than those between raters mean little."
        )


def _grid(material: Material) -> Iterator[str]:
    ratios = [max(case.native.spacing) / min(case.native.spacing) for case in material.dataset.part("test")]
    if ratios and (ratio := float(np.median(ratios))) > COARSE:
        yield (
            f"{material.dot.capitalize()}s are anisotropic (the coarsest axis {number(ratio, 1)} times the finest): "
            "along that axis surface distances are no finer than a slice is thick."
        )
    small = [name for name in material.scores.structures if 0 < _radius(material, name) < TINY_VOXELS]
    if small:
        yield (
            f"{listed(small)} {'is' if len(small) == 1 else 'are'} small beside the {material.dot}s (a "
            f"{'disc' if material.rank == 2 else 'ball'} of the median {material.extent} has a radius below "
            f"{TINY_VOXELS:g} {material.dot}s): one {material.dot} of rim moves the Dice by more than 0.1."
        )


def _radius(material: Material, structure: str) -> float:
    """Return the radius, in voxels, of a ball as large as the structure is in the median test case; in 2D a disc."""
    volumes = {case: mm3 for case, mm3 in material.scores.defined(structure, "vol_ref_mm3").items() if mm3 > 0}
    sizes = {case.id: float(np.prod(case.native.spacing)) for case in material.dataset.cases}
    voxels = [mm3 / sizes[case] for case, mm3 in volumes.items() if case in sizes]
    if not voxels:
        return 0.0
    middle = float(np.median(voxels))
    return (3 * middle / (4 * math.pi)) ** (1 / 3) if material.rank == 3 else math.sqrt(middle / math.pi)


def _undefined(material: Material) -> Iterator[str]:
    holes = [
        f"{name_of(metric)} of {structure} in {figure.undefined}"
        for structure in material.scores.structures
        for metric in material.scores.main
        if (figure := material.figure(metric, structure)) is not None and figure.undefined
    ]
    if holes:
        yield f"Some figures are undefined and not in their means: {listed(holes)} case(s)."


def _left_out(material: Material) -> Iterator[str]:
    aside, errors = len(material.dataset.quarantined), len(material.scores.errors)
    if aside or errors:
        yield (
            f"{counted(aside + errors, 'case')} {'is' if aside + errors == 1 else 'are'} in no figure ({aside} set "
            f"aside, {errors} not scored). If faults go with disease or with a scanner, figures are too good."
        )


def _trainings(material: Material) -> Iterator[str]:
    if len(material.repeats) < 2:
        yield "The network was trained with one seed: how far another training would differ was not measured."
    if len(material.parts) > 1:
        yield (
            "Test cases were segmented by several networks together, the others by one each: figures over both mix two "
            "kinds of prediction."
        )
