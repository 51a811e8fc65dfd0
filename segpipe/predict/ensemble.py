"""Several networks as one: the mean of what they draw."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name everybody knows


@torch.inference_mode()
def averaged(members: Iterable[Tensor], kind: str) -> Tensor:
    """Return the mean of score maps (K, *S), in the form that the target of this ``kind`` decodes.

    ``classes``: the mean of the softmax probabilities, which also interpolate better than unbounded scores.
    ``regions``: the mean of the sigmoid probabilities, as a score again, so that it is above 0 where the mean is
    above one half. ``signed_distance``: the mean of the distances.

    The maps are taken one by one, and only their mean is kept; a single one is not changed by averaging.
    """
    mean: Tensor | None = None
    for before, raw in enumerate(members):
        scores = raw.softmax(dim=0) if kind == "classes" else raw
        if mean is None:
            mean = scores
        elif kind == "regions":
            mean = _mean_logit(mean, before, scores)
        else:
            mean = mean + (scores - mean) / (before + 1)
    assert mean is not None, "an ensemble has members"
    return mean


def _mean_logit(mean: Tensor, before: int, scores: Tensor) -> Tensor:
    """Return the logit of the mean probability of ``before`` members and one more, from logits.

    By logarithms: probabilities near 0 and 1 are lost in float32.
    """
    weight = math.log(before)
    yes = torch.logaddexp(F.logsigmoid(mean) + weight, F.logsigmoid(scores))
    no = torch.logaddexp(F.logsigmoid(-mean) + weight, F.logsigmoid(-scores))
    return yes - no
