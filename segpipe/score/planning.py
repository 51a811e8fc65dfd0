"""How many subjects a figure needs: for an interval of some width, or to show a difference of some size."""

import math

from scipy import stats

POWER = 0.8
"""The usual chance with which a difference that is there should be found."""


def subjects_for_width(sd: float, half_width: float, confidence: float = 0.95) -> int:
    """Return how many subjects make Student's interval of a mean reach no further than ``half_width`` either way.

    Args:
        sd: Between subjects, in the unit of the scores.
        half_width: In the same unit, above 0.
        confidence: Of the interval, 0 to 1.
    """
    rim = (1 + confidence) / 2
    count = max(2, math.ceil((float(stats.norm.ppf(rim)) * sd / half_width) ** 2))
    while float(stats.t.ppf(rim, count - 1)) * sd / math.sqrt(count) > half_width:
        count += 1
    return count


def subjects_for_difference(sd: float, least: float, power: float = POWER, level: float = 0.05) -> int:
    """Return how many subjects a two-sided paired test needs to find a mean difference of ``least``.

    Normal approximation with Guenther's correction for Student's t (1981, doi:10.1080/00031305.1981.10479349).

    Args:
        sd: Of the subjects' differences, in the unit of the scores.
        least: The smallest difference that matters, in the same unit, not 0.
        power: Chance to find it.
        level: Of the test.
    """
    rim = float(stats.norm.ppf(1 - level / 2))
    return max(2, math.ceil(((rim + float(stats.norm.ppf(power))) * sd / abs(least)) ** 2 + rim**2 / 2))
