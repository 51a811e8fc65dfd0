"""Known shapes: what each score must notice, what it must not, in which words, and what it makes of the Dice."""

import math
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from segpipe.quality.damage import damaged, moved
from segpipe.quality.frame import plan_frame, reach_of
from segpipe.quality.known import (
    PLAUSIBLE,
    KnownShapes,
    Redraw,
    calibrated,
    dice_of,
    known_shapes,
    redrawn_dice,
)
from segpipe.quality.shape import Shapes
from tests.bodies import LABELS, bodies, body, half_lost, rough, shapes, shifted, traded, with_an_island

COUNT = 24


def of_the_nearest(references: list[Shapes], known: KnownShapes) -> Redraw:
    """Return what draws a window again as the most similar reference: a perfect network for these tests."""
    windows = [known.frame.cut(one) for one in references]

    def redraw(classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.stack(
            [max(windows, key=lambda window: int((window == one)[(one > 0) | (window > 0)].sum())) for one in classes]
        )

    return redraw


@cache
def learned(rank: int) -> tuple[KnownShapes, Redraw]:
    references = bodies(COUNT, rank)
    frame = plan_frame(LABELS, [reach_of(one) for one in references], (2.0,) * rank, 2)
    known = known_shapes(frame, references, [str(n) for n in range(COUNT)])
    redraw = of_the_nearest(references, known)
    usual = bodies(2 * COUNT, rank)[COUNT:]
    redrawn = {
        name: tuple(sorted(redrawn_dice(frame, one, redraw(frame.cut(one)[None])[0], name) for one in usual))
        for name in known.structures
    }
    known = known.model_copy(
        update={
            "structures": {
                name: one.model_copy(update={"redrawn": redrawn[name]}) for name, one in known.structures.items()
            }
        }
    )
    worse, elsewhere = [], []
    for index, one in enumerate(usual):
        rng = np.random.default_rng(index)
        for found, now in [(worse, damaged(one, rng)) for _ in range(6)] + [
            (elsewhere, moved(one, rng)) for _ in range(6)
        ]:
            parts = known.parts(now, redraw)
            found += [(parts[name], dice_of(now.mask(name), one.mask(name))) for name in parts]
    return calibrated(known, worse, elsewhere), redraw


@pytest.fixture(scope="module", params=[2, 3])
def learnt(request: pytest.FixtureRequest) -> tuple[KnownShapes, Redraw]:
    return learned(request.param)


@pytest.fixture(scope="module")
def solid() -> tuple[KnownShapes, Redraw]:
    return learned(3)


def rank_of(known: KnownShapes) -> int:
    return len(known.frame.size)


def told(known: KnownShapes, redraw: Redraw, one: Shapes, *others: Shapes) -> tuple[float, str]:
    checks = known.checks(one, known.parts(one, redraw, others))
    assert checks[0].name == PLAUSIBLE
    return checks[0].value, checks[0].words


def held(known: KnownShapes, count: int = 12) -> list[Shapes]:
    """Return cases that are neither references nor what the lines were learned on."""
    return [body(seed, rank_of(known)) for seed in range(COUNT * 2, COUNT * 2 + count)]


def test_other_references_are_plausible_and_small_variation_leaves_them_so(learnt: tuple[KnownShapes, Redraw]) -> None:
    known, redraw = learnt
    as_they_are = [told(known, redraw, one)[0] for one in held(known)]
    assert np.mean(as_they_are) > 0.85
    assert min(as_they_are) > 0.6
    for change in (rough, lambda one: shifted(one, 1)):
        assert np.mean([told(known, redraw, change(one))[0] for one in held(known)]) > np.mean(as_they_are) - 0.1


def test_half_a_shape_is_less_plausible_than_the_whole(learnt: tuple[KnownShapes, Redraw]) -> None:
    known, redraw = learnt
    gaps = [told(known, redraw, one)[0] - told(known, redraw, half_lost(one))[0] for one in held(known)]
    assert np.mean(gaps) > 0.12  # in the mean: what it says of a single case is rough
    parts = [known.parts(half_lost(one), redraw) for one in held(known)]
    assert all(min(part.form for part in one.values()) > 1 for one in parts)


@pytest.mark.parametrize(
    ("worse", "words"),
    [
        (with_an_island, "front: 2 components, reference masks 1"),
        (lambda one: shifted(one, 6), "mm from where it usually lies"),
        (traded, "SD"),
        (lambda one: shapes(np.where(one.classes == 1, 0, one.classes)), "front: missing; 100% of the reference masks"),
        (lambda one: shapes(np.zeros_like(one.classes)), "back: missing"),
    ],
    ids=["an island", "in another place", "sides traded", "a structure lost", "nothing drawn"],
)
def test_what_is_wrong_lowers_the_plausibility_and_is_said(
    learnt: tuple[KnownShapes, Redraw], worse: object, words: str
) -> None:
    known, redraw = learnt
    one = body(COUNT * 2 + 1, rank_of(known))
    value, why = told(known, redraw, worse(one))  # type: ignore[operator]
    assert value < min(0.7, told(known, redraw, one)[0] - 0.15)
    assert words in why


def test_a_plausible_shape_in_the_wrong_place_is_noticed_by_its_place_alone(solid: tuple[KnownShapes, Redraw]) -> None:
    known, redraw = solid
    one = body(COUNT * 2 + 2)
    here, there = known.parts(one, redraw)["front"], known.parts(shifted(one, 7), redraw)["front"]
    assert there.redrawn == pytest.approx(here.redrawn)
    assert there.form == pytest.approx(here.form)
    assert there.place > 1 > here.place
    _, why = told(known, redraw, shifted(one, 7))
    assert "mm from where it usually lies" in why


def test_networks_that_disagree_lower_the_plausibility(solid: tuple[KnownShapes, Redraw]) -> None:
    known, redraw = solid
    one = body(COUNT * 2 + 3)
    alike, _ = told(known, redraw, one, one)
    value, why = told(known, redraw, one, half_lost(one))
    assert alike == told(known, redraw, one)[0]
    assert value < 0.75 < alike
    assert "another pass" in why
    parts = known.parts(one, redraw, [one, half_lost(one)])
    assert parts["front"].agreement == pytest.approx((1 + dice_of(one.mask("front"), half_lost(one).mask("front"))) / 2)


def test_the_checks_have_the_same_names_whatever_was_drawn(solid: tuple[KnownShapes, Redraw]) -> None:
    known, redraw = solid
    empty = shapes(np.zeros_like(body(0).classes))
    names = [[check.name for check in known.checks(one, known.parts(one, redraw))] for one in (body(0), empty)]
    assert names[0] == names[1]
    assert {f"{PLAUSIBLE}[front]", f"{PLAUSIBLE}[back]"} < set(names[0])


def test_the_plausibility_follows_the_dice_of_damage_it_has_not_seen(solid: tuple[KnownShapes, Redraw]) -> None:
    from scipy.stats import spearmanr

    known, redraw = solid
    found, true = [], []
    for seed in range(100, 160):
        one, rng = body(seed), np.random.default_rng(seed)
        now = damaged(one, rng) if seed % 4 else moved(one, rng)
        found.append(told(known, redraw, now)[0])
        true.append(np.mean([dice_of(now.mask(name), one.mask(name)) for name in known.structures]))
    assert spearmanr(found, true).statistic > 0.8
    assert float(np.mean(np.abs(np.subtract(found, true)))) < 0.15


def test_a_structure_that_few_cases_show_is_judged_by_what_is_known() -> None:
    references = [
        shapes(np.where(one.classes == 2, 0, one.classes)) if seed > 2 else one for seed, one in enumerate(bodies(8))
    ]
    frame = plan_frame(LABELS, [reach_of(one) for one in references], (2.0,) * 3, 2)
    known = known_shapes(frame, references, [str(n) for n in range(8)])
    assert known.structures["back"].form is None
    parts = known.parts(references[5], lambda classes: classes)
    assert math.isnan(parts["back"].redrawn), "it may be missing"
    assert KnownShapes.model_validate_json(known.model_dump_json()) == known
