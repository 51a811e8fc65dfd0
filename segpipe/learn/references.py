"""From prepared cases to known shapes: which references the network sees, and which tell what its scores mean."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from segpipe.core.stage import Workspace
from segpipe.dataset.manifest import Case
from segpipe.dataset.plan import Plan
from segpipe.dataset.prepare import Prepared, PreparedSet
from segpipe.imaging.volume import Volume
from segpipe.learn.shapes import ShapesConfig, learn_redrawing, learn_scores, redrawn_dices
from segpipe.nets.shape import ShapeNetwork, redrawer
from segpipe.quality.frame import coarse_spacing, plan_frame, reach_of
from segpipe.quality.known import KnownShapes, known_shapes
from segpipe.quality.shape import Shapes, shapes_of

LEAST_HELD = 10
"""Held-out cases below which those that the network has seen tell what its scores mean, too."""


def learn_known_shapes(
    plan: Plan,
    prepared: PreparedSet,
    parts: tuple[Sequence[Case], Sequence[Case]],
    config: ShapesConfig,
    work: Workspace,
) -> tuple[KnownShapes, ShapeNetwork, dict[str, float]]:
    """Return what is known of the shapes in reference label maps, the network that redraws them, and a few figures.

    Args:
        plan: Structures and spacing.
        prepared: The cases.
        parts: Cases that the network learns from, and those that it does not see. Nothing else is read.
        config: How it is learned.
        work: Where checkpoints lie meanwhile.
    """
    training, held = parts
    every = {case.id: prepared[case.id] for case in (*training, *held)}
    spacing = coarse_spacing(
        [reach_of(one) for one in _shapes(plan, every, plan.spacing).values()], plan.spacing, config.voxels
    )
    shapes = _shapes(plan, every, spacing)
    frame = plan_frame(plan.labels, [reach_of(one) for one in shapes.values()], spacing, config.depth)
    subjects = {case.id: case.subject for case in (*training, *held)}
    drawn = [case for case, one in shapes.items() if one.classes.any()]
    known = known_shapes(frame, [shapes[case] for case in drawn], [subjects[case] for case in drawn])
    seen = {case.id: shapes[case.id] for case in training if case.id in drawn}
    unseen = [shapes[case.id] for case in held if case.id in drawn]
    network = learn_redrawing(known, seen, unseen, config, work)
    redraw = redrawer(network, config.fit.precision, work.device)
    if few := len(unseen) < LEAST_HELD:
        work.tell(f"{len(unseen)} label maps are held out: what shape scores mean is told from the others, too")
    known = learn_scores(known, [*unseen, *(seen.values() if few else ())], redraw, config, work)
    return (
        known,
        network,
        {
            "shape_voxels": math.prod(frame.size),
            "shape_cases": len(seen),
            "shape_held_out": len(unseen),
            **_redrawn("shape_redrawn_training", known, list(seen.values()), network, config, work),
            **_redrawn("shape_redrawn_held_out", known, unseen, network, config, work),
        },
    )


def _shapes(plan: Plan, cases: Mapping[str, Prepared], spacing: tuple[float, ...]) -> dict[str, Shapes]:
    found = {}
    for name, case in cases.items():
        geometry = case.geometry
        found[name] = shapes_of(Volume(np.asarray(case.labels), geometry), plan.labels, geometry, spacing)
    return found


def _redrawn(
    name: str,
    known: KnownShapes,
    references: Sequence[Shapes],
    network: ShapeNetwork,
    config: ShapesConfig,
    work: Workspace,
) -> dict[str, float]:
    values = [
        value
        for those in redrawn_dices(known, references, redrawer(network, config.fit.precision, work.device)).values()
        for value in those
    ]
    return {name: float(np.mean(values))} if values else {}
