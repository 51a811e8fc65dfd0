"""Made-up results of studies."""

from collections.abc import Mapping, Sequence

import numpy as np

from segpipe.study.cells import Cell, Result
from segpipe.study.figures import Figures, gather
from segpipe.study.settings import StudyConfig

CASES = [f"jane-doe-{number:02d}" for number in range(30)]


def result_of(cell: Cell, gain: float, cases: Sequence[str] = CASES) -> Result:
    """Return a result in which cases and seeds vary, alike for all conditions, and a little for each."""
    alike = np.random.default_rng([cell.labels, cell.seed]).normal(0, 0.01)
    base = 0.6 + 0.002 * cell.labels + np.random.default_rng(0).normal(0, 0.05, len(CASES)) + alike
    own = np.random.default_rng([cell.labels, cell.seed, *cell.condition.encode()]).normal(0, 0.01, len(CASES))
    values = dict(zip(CASES, (base + own + gain).tolist(), strict=True))
    curve = {50: 0.58 + gain, 100: 0.6 + gain}
    return Result(cell, f"print{cell.seed}", {case: values[case] for case in cases}, curve, 12.5)


def figures_of(
    gains: Mapping[str, float],
    labels: Sequence[int] = (4, 8),
    seeds: int = 4,
    missing: Sequence[Cell] = (),
    **more: object,
) -> Figures:
    """Return the figures of a study whose conditions gain so much Dice over the baseline."""
    names = ("scratch", *gains)
    study = StudyConfig.model_validate(
        {"conditions": {name: [] for name in names}, "labels": list(labels), "seeds": seeds, **more}
    )
    cells = [Cell(name, count, seed) for seed in range(seeds) for count in labels for name in names]
    there = [result_of(cell, gains.get(cell.condition, 0.0)) for cell in cells if cell not in missing]
    return gather(study, there, missing, {case: case for case in CASES})
