"""Why a loss is not finite: which cases, which channels, or the weights themselves."""

import math

import torch
from torch import Tensor, nn

from segpipe.learn import ranks
from segpipe.learn.batches import Batch
from segpipe.learn.recipe import Recipe
from segpipe.nets.precision import computing

ABSURD = 1e4
"""Normalised images lie within a few units of zero; a value beyond this is none that was measured."""
SLOWER = "Lower optim.learning_rate."
KEPT = "The last checkpoint is kept."


def why_not_finite(task: nn.Module, drawn: Batch, varied: Batch, recipe: Recipe, step: int, device: str) -> str:
    """Return one line that names what made the loss of a step not finite, the same line in every process.

    Each patch is tried by itself: a case is named only if its own loss is not finite.

    Args:
        task: Turns a batch into named losses.
        drawn: The batch as it was read: augmentation would carry one voxel to others.
        varied: The same patches, as the task saw them.
        recipe: Settings; the names of the channels.
        step: Of the training, from 0.
        device: Where the task lies.
    """
    start = f"the loss is not finite at step {step}"
    if not all(bool(parameter.isfinite().all()) for parameter in task.parameters()):  # the same in every process
        return f"{start}: the weights are no longer finite. {SLOWER} {KEPT}"
    with ranks.alone():
        own = _guilty(task, varied, recipe, device)
    odd = {drawn.cases[index]: _oddities(drawn.image[index], recipe.channels) for index in own}
    patches, guilty, strange, cases = _together(len(varied.cases), len(own), odd)
    if not guilty:
        return f"{start}, though each patch by itself is well: training has diverged. {SLOWER} {KEPT}"
    named = "; ".join(cases)
    if guilty == patches and not strange:
        return f"{start} on every patch, though the images look sound ({named}): training has diverged. {SLOWER} {KEPT}"
    return f"{start}, on {named}. Mend these images or take them out of the data set. {KEPT}"


def _guilty(task: nn.Module, batch: Batch, recipe: Recipe, device: str) -> list[int]:
    """Return the numbers of the patches whose loss is not finite when they are alone."""
    found = []
    for index in range(len(batch.cases)):
        here = slice(index, index + 1)
        weight = None if batch.weight is None else batch.weight[here]
        one = batch._replace(image=batch.image[here], target=batch.target[here], weight=weight, cases=batch.cases[here])
        with torch.no_grad(), computing(recipe.fit.precision, device):
            loss = float(sum(task(one).values()))
        if not math.isfinite(loss):
            found.append(index)
    return found


def _oddities(image: Tensor, names: tuple[str, ...]) -> list[str]:
    """Return a word on each channel of an image (C, *P) that holds values that nothing measured."""
    found = []
    for number, channel in enumerate(image):
        title = f"channel {number}" + (f" '{names[number]}'" if number < len(names) else "")
        peak = float(channel.abs().max())  # NaN where a value is
        if not math.isfinite(peak):
            found.append(f"{title} holds {int((~channel.isfinite()).sum())} values that are not finite")
        elif peak > ABSURD:
            found.append(f"{title} holds values up to {peak:.0e}")
    return found


def _together(patches: int, guilty: int, odd: dict[str, list[str]]) -> tuple[int, int, int, list[str]]:
    """Return what all processes found: patches, guilty ones, cases with odd channels, and a word on each case."""
    words = [f"case {name}" + (f" ({', '.join(found)})" if found else "") for name, found in odd.items()]
    counts = f"{patches} {guilty} {sum(map(bool, odd.values()))}"
    told = [text.split("\n") for text in ranks.texts("\n".join([counts, *words]))]
    sums = [sum(column) for column in zip(*([int(n) for n in counted.split()] for counted, *_ in told), strict=True)]
    return sums[0], sums[1], sums[2], sorted({word for _, *words in told for word in words})
