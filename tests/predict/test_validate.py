"""Whole validation images: the Dice of each, and what the network promised, each case by itself."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from segpipe.dataset.manifest import Case
from segpipe.imaging.targets import SignedDistance
from segpipe.predict.validate import validated, whole_image_dice
from tests.predict.test_segmenter import EXACT, grid, plan_of, scan_of, threshold

AXES = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def prepared() -> dict[str, Any]:
    """Return one case that the network draws exactly, one that it draws too large, and one without a reference."""
    scan, truth = scan_of(grid())
    smaller = scan.array[0] > 0.7
    maps = {"exact": truth, "larger": smaller, "nothing": np.zeros_like(truth)}
    return {
        name: SimpleNamespace(image=scan.array.astype(np.float16), labels=3 * mask[None].astype(np.uint16))
        for name, mask in maps.items()
    }


CASES = tuple(
    Case(id=name, subject=f"of {name}", part="develop", images=(), label=None, shape=(2, 2), affine=AXES)
    for name in ("exact", "larger", "nothing")
)


def test_each_case_keeps_its_dice_and_its_promise() -> None:
    plan, known = plan_of(), prepared()
    task: Any = SimpleNamespace(network=threshold(plan))
    figures, held = validated(task, CASES, known, plan, EXACT)  # type: ignore[arg-type]
    exact, larger, nothing = held.cases
    assert (exact.case, exact.subject, exact.shown) == ("exact", "of exact", ("ball",))
    assert exact.dice["ball"] == pytest.approx(1, abs=0.01)
    assert 0 < larger.dice["ball"] < 0.8
    assert (nothing.dice["ball"], nothing.shown) == (0, ())
    assert len({one.promised["ball"] for one in held.cases}) == 1  # the network saw one and the same image
    assert held.probabilities
    assert figures["dice"] == pytest.approx(np.mean([one.dice["ball"] for one in held.cases]), abs=1e-5)


def test_the_figures_are_those_by_which_weights_are_chosen() -> None:
    plan, known = plan_of(), prepared()
    task: Any = SimpleNamespace(network=threshold(plan))
    figures, _ = validated(task, CASES, known, plan, EXACT)  # type: ignore[arg-type]
    assert figures == whole_image_dice(task, list(known.values()), plan, EXACT)


def test_distances_promise_nothing() -> None:
    plan = plan_of(target=SignedDistance())
    task: Any = SimpleNamespace(network=threshold(plan, -1.0))
    _, held = validated(task, CASES, prepared(), plan, EXACT)  # type: ignore[arg-type]
    assert not held.probabilities
    assert [one.promised for one in held.cases] == [{}, {}, {}]
    assert held.cases[0].dice["ball"] > 0.9
