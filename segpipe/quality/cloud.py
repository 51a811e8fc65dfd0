"""Where the figures of usual cases lie, and how far another one lies from there."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from segpipe.core.section import Section

Floats = NDArray[np.float64]
Rows = Sequence[Mapping[str, float]]

LEAST_SPREAD = 0.02
"""Figures are logarithms, correlations and shares, and known no better than this, which is added to their spread: a
figure that hardly varies in training (the mean of z-scored images) raises no alarm when it moves by a trifle."""


class Cloud(Section):
    """A Gaussian cloud of figures: centre, spread and, of the standardised figures, the inverse covariance."""

    names: tuple[str, ...]
    centre: tuple[float, ...]
    spread: tuple[float, ...]
    """Standard deviations."""
    precision: tuple[tuple[float, ...], ...]
    usual: tuple[float, ...]
    """Distances of the usual cases in ascending order, each from the cloud of the other subjects."""

    def away(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Return by how many standard deviations each figure lies above the centre."""
        places = zip(self.names, self.centre, self.spread, strict=True)
        return {name: (figures[name] - centre) / spread for name, centre, spread in places}

    def distance(self, figures: Mapping[str, float]) -> float:
        """Return the Mahalanobis distance from the centre: √(zᵀ P z) of the standardised figures z."""
        z = np.fromiter(self.away(figures).values(), np.float64)
        return float(np.sqrt(max(z @ np.asarray(self.precision) @ z, 0.0)))

    def border(self, alarm: float) -> float:
        """Return the distance beyond which a case is unusual (see ``border_of``)."""
        return border_of(self.usual, alarm)


def cloud_of(rows: Rows, subjects: Sequence[str]) -> tuple[Cloud, list[float]]:
    """Return the cloud of usual cases, and the distance of each case from the cloud of the other subjects.

    Args:
        rows: Figures of each case, all under the same names.
        subjects: Of each case. Two at least.
    """
    names = tuple(rows[0])
    table = np.asarray([[row[name] for name in names] for row in rows], np.float64)
    distances = [0.0] * len(rows)
    for subject in dict.fromkeys(subjects):
        mine = [index for index, other in enumerate(subjects) if other == subject]
        rest = _fitted(np.delete(table, mine, axis=0), names)
        for index in mine:
            distances[index] = rest.distance(rows[index])
    return _fitted(table, names).model_copy(update={"usual": tuple(sorted(distances))}), distances


def shrunk_covariance(table: Floats) -> Floats:
    """Return the covariance (p, p) of a centred table (n, p), drawn towards a multiple of the identity.

    Σ = (1 - a) S + a (tr S / p) I, with the share a that is best in the mean square (Ledoit and Wolf 2004, A
    well-conditioned estimator for large-dimensional covariance matrices): it can be inverted also where cases are
    fewer than figures.
    """
    n, p = table.shape
    sample = table.T @ table / n
    mean = float(np.trace(sample)) / p
    apart = float(np.square(sample - mean * np.eye(p)).sum()) / p
    error = (float(np.square(np.square(table).sum(axis=1)).sum()) / n - float(np.square(sample).sum())) / (n * p)
    share = min(max(error, 0.0), apart) / apart if apart > 0 else 1.0
    return np.asarray((1 - share) * sample + share * mean * np.eye(p), np.float64)


def border_of(usual: Sequence[float], alarm: float) -> float:
    """Return the score that a share ``alarm`` of usual cases exceeds, as far as so many of them can tell.

    The conformal quantile, the ⌈(1 - alarm)(n + 1)⌉-th of n ascending scores: the chance that another usual case lies
    beyond it is at most ``alarm`` (Vovk et al. 2005). Where cases are so few that there is none, the largest: then the
    chance is 1/(n + 1).
    """
    rank = math.ceil((1 - alarm) * (len(usual) + 1) - 1e-9)
    return usual[min(max(rank, 1), len(usual)) - 1]


def share_beyond(usual: Sequence[float], score: float) -> float:
    """Return the conformal p-value of a score: (1 + usual cases with this score or more) / (1 + usual cases).

    Uniform for a case like the usual ones (Bates et al. 2023, Testing for outliers with conformal p-values).
    """
    return (1 + sum(one >= score for one in usual)) / (1 + len(usual))


def _fitted(table: Floats, names: tuple[str, ...]) -> Cloud:
    centre = table.mean(axis=0)
    spread = np.sqrt(table.var(axis=0) + LEAST_SPREAD**2)
    covariance = shrunk_covariance((table - centre) / spread) + np.diag(np.square(LEAST_SPREAD / spread))
    precision = np.linalg.inv(covariance)
    return Cloud(
        names=names,
        centre=_rounded(centre),
        spread=_rounded(spread),
        precision=tuple(_rounded(row) for row in (precision + precision.T) / 2),
        usual=(),
    )


def _rounded(values: Floats) -> tuple[float, ...]:
    return tuple(float(f"{value:.7g}") for value in values)
