"""The predicted Dice: learned from held-out cases, never from the case itself, and with an error that holds."""

import math
from pathlib import Path

import numpy as np
import pytest

from segpipe.core.errors import ArtifactError
from segpipe.quality.confidence import UNDRAWN, Confidence
from segpipe.quality.predicted import (
    LEAST,
    VALIDATION,
    DicePredictor,
    HeldOut,
    Measured,
    measured,
    read_held,
    write_held,
)


def held_out(count: int, noise: float = 0.02, seed: int = 0) -> HeldOut:
    """Return cases whose true Dice is a tenth below what was promised, give or take."""
    random = np.random.default_rng(seed)
    promised = random.uniform(0.6, 0.95, count)
    true = np.clip(promised - 0.1 + random.normal(0, noise, count), 0, 1)
    cases = [
        measured(f"c{index}", f"s{index}", sure(p), {"ball": float(t)}, ["ball"])
        for index, (p, t) in enumerate(zip(promised, true, strict=True))
    ]
    return HeldOut(structures=("ball",), cases=tuple(cases))


def sure(promised: float) -> dict[str, Confidence]:
    return {"ball": Confidence(0.1, promised)}


def test_it_learns_what_a_promise_is_worth() -> None:
    predictor = DicePredictor([held_out(60)])
    assert predictor(sure(0.85)).mean == pytest.approx(0.75, abs=0.03)
    assert predictor(sure(0.70)).mean == pytest.approx(0.60, abs=0.03)


def test_nine_of_ten_new_cases_lie_within_its_error() -> None:
    predictor = DicePredictor([held_out(60)])
    new = held_out(2000, seed=1)
    off = [abs(predictor(sure(one.promised["ball"])).mean - one.dice["ball"]) for one in new.cases]
    assert np.mean(np.asarray(off) <= predictor.error) == pytest.approx(0.9, abs=0.06)
    assert predictor.error < 0.08


def test_less_sure_than_any_held_out_case_is_worse_than_the_worst_of_them() -> None:
    predictor = DicePredictor([held_out(60)])
    worst = min(one.dice["ball"] for one in held_out(60).cases)
    assert predictor(sure(0.3)).mean < worst
    assert predictor(sure(0.0)).mean == 0


def test_a_held_out_case_is_predicted_from_the_others() -> None:
    good = held_out(20)
    odd = Measured(case="odd", subject="odd", promised={"ball": 0.94}, dice={"ball": 0.02}, shown=("ball",))
    with_it = DicePredictor([good.model_copy(update={"cases": (*good.cases, odd)})])
    assert with_it(sure(0.94), "odd").mean == pytest.approx(DicePredictor([good])(sure(0.94)).mean, abs=1e-9)
    assert with_it(sure(0.94), "odd").mean > with_it(sure(0.94)).mean


def test_cases_of_one_subject_are_left_out_together() -> None:
    one = held_out(LEAST - 1)
    scans = [case.model_copy(update={"case": f"again{n}", "subject": "s0"}) for n, case in enumerate(one.cases)]
    predictor = DicePredictor([one.model_copy(update={"cases": (*one.cases, *scans)})])
    assert math.isnan(predictor(sure(0.9)).mean)
    assert predictor.why_not == f"{LEAST - 1} of {LEAST} subjects to learn it from"


@pytest.mark.parametrize(
    ("held", "why"),
    [
        ([], "no validation cases"),
        ([held_out(LEAST - 1)], f"{LEAST - 1} of {LEAST} subjects"),
        ([held_out(30).model_copy(update={"probabilities": False})], "no probabilities"),
    ],
)
def test_it_says_why_it_predicts_nothing(held: list[HeldOut], why: str) -> None:
    found = DicePredictor(held)(sure(0.9))
    assert math.isnan(found.mean)
    assert why in found.why


def test_a_missing_structure_counts_as_nothing_where_references_show_it() -> None:
    two = ("ball", "rod")
    cases = tuple(
        one.model_copy(update={"promised": one.promised | {"rod": 0.9}, "dice": one.dice | {"rod": 0.9}, "shown": two})
        for one in held_out(20).cases
    )
    predictor = DicePredictor([HeldOut(structures=two, cases=cases)])
    found = predictor({"ball": Confidence(0.1, 0.9), "rod": UNDRAWN})
    assert found.missing == ("rod",)
    assert found.each["rod"] == 0
    assert found.mean == pytest.approx(found.each["ball"] / 2)
    rare = [one.model_copy(update={"shown": ("ball",)}) for one in cases[:5]]
    seldom = DicePredictor([HeldOut(structures=two, cases=(*rare, *cases[5:]))])
    assert seldom({"ball": Confidence(0.1, 0.9), "rod": UNDRAWN}).missing == ()


def test_what_goes_with_a_model_names_nobody_and_predicts_the_same(tmp_path: Path) -> None:
    held = held_out(25)
    write_held(tmp_path / VALIDATION, held.nameless())
    assert '"c1' not in (tmp_path / VALIDATION).read_text()
    assert '"s1' not in (tmp_path / VALIDATION).read_text()
    again = read_held(tmp_path / VALIDATION)
    assert again is not None
    named, nameless = DicePredictor([held]), DicePredictor([again])
    assert nameless(sure(0.8)).mean == named(sure(0.8)).mean
    assert nameless.error == pytest.approx(named.error, abs=1e-9)


def test_nameless_subjects_of_two_networks_are_not_the_same() -> None:
    halves = [held_out(8).nameless(), held_out(8, seed=1).nameless()]
    assert DicePredictor(halves).why_not == ""
    assert len(DicePredictor(halves).residuals) == 16


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    assert read_held(tmp_path / VALIDATION) is None
    (tmp_path / VALIDATION).write_text('{"structures": 3}')
    with pytest.raises(ArtifactError, match=r"validation\.json: damaged") as error:
        read_held(tmp_path / VALIDATION)
    assert "\n" not in str(error.value)
