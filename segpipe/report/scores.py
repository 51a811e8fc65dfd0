"""The scores of an evaluation, looked up by case, structure and metric."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from segpipe.score.case import Status, status
from segpipe.score.table import read_scores


@dataclass(frozen=True)
class Scores:
    """Every number of every scored case."""

    cases: tuple[str, ...]
    """All cases that were to be scored, sorted; those that could not be are among them."""
    structures: tuple[str, ...]
    metrics: tuple[str, ...]
    values: Mapping[tuple[str, str], Mapping[str, float]]
    """(structure, metric) -> case -> value; NaN where undefined."""
    errors: Mapping[str, str]
    """Why a case has no scores."""

    @classmethod
    def read(cls, path: Path, names: tuple[str, ...]) -> Self:
        """Return what the evaluation wrote; ``names`` gives the order of the structures.

        Raises:
            ArtifactError: The file is missing or damaged.
        """
        values: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
        errors: dict[str, str] = {}
        for row in read_scores(path):
            if isinstance(row.value, str):
                errors[row.case] = row.value
            else:
                values[row.label, row.metric][row.case] = row.value
        found = dict.fromkeys(structure for structure, _ in values)
        cases = {case for column in values.values() for case in column} | errors.keys()
        return cls(
            tuple(sorted(cases)),
            tuple([name for name in names if name in found] + [name for name in found if name not in names]),
            tuple(dict.fromkeys(metric for _, metric in values)),
            dict(values),
            errors,
        )

    def get(self, case: str, structure: str, metric: str) -> float:
        """Return one number; NaN where there is none."""
        return self.values.get((structure, metric), {}).get(case, math.nan)

    def defined(self, structure: str, metric: str) -> dict[str, float]:
        """Return the defined values of a column, by case."""
        column = self.values.get((structure, metric), {})
        return {case: value for case, value in column.items() if math.isfinite(value)}

    def overall(self, metric: str) -> dict[str, float]:
        """Return each case's mean over the structures in which the metric is defined, as the summary takes it."""
        gathered: dict[str, list[float]] = defaultdict(list)
        for structure in self.structures:
            for case, value in self.defined(structure, metric).items():
                gathered[case].append(value)
        return {case: math.fsum(values) / len(values) for case, values in gathered.items()}

    def ranked(self) -> list[str]:
        """Return the cases by mean Dice, the worst first; those without any are left out."""
        overall = self.overall("dice")
        return sorted(overall, key=lambda case: (overall[case], case))

    def states(self) -> dict[str, dict[Status, list[str]]]:
        """Return, for each structure, the cases in which it was scored, missed, hallucinated or absent."""
        result: dict[str, dict[Status, list[str]]] = {}
        for structure in self.structures:
            groups: dict[Status, list[str]] = defaultdict(list)
            reference = self.defined(structure, "vol_ref_mm3")
            for case, predicted in sorted(self.defined(structure, "vol_pred_mm3").items()):
                groups[status(reference.get(case, 0.0), predicted)].append(case)
            result[structure] = groups
        return result

    @property
    def nsd(self) -> str | None:
        """The surface Dice of the smallest tolerance, or None where surfaces were not measured."""
        measured = [metric for metric in self.metrics if metric.startswith("nsd_")]
        return min(measured, key=lambda metric: float(metric[4:-2])) if measured else None

    @property
    def main(self) -> tuple[str, ...]:
        """The metrics that are read first: overlap, surface at each tolerance, distances, what a task asks for."""
        nsd = [metric for metric in self.metrics if metric.startswith("nsd_")]
        found = [metric for metric in self.metrics if metric.startswith("lesion_f1_")]
        order = ["dice", *nsd, "hd95_mm", "assd_mm", "cldice", *found, "vrand", "vinfo"]
        return tuple(metric for metric in order if metric in self.metrics)
