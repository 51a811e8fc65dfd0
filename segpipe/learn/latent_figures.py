"""Figures of a latent space: how evenly images change along a way, how plausible samples are."""

import math

import torch
from torch import Tensor

NEIGHBOURS = 3
"""Which neighbour's distance is the reach of a point of a manifold (Kynkäänniemi et al. 2019)."""
BINS = 16
"""Bands of spatial frequency, up to half a cycle a voxel along one axis."""
SMALLEST = 1e-12


def path_lengths(path: Tensor) -> tuple[Tensor, Tensor]:
    """Return the length of each step (K,) of a path of images (K + 1, C, *P), and that from its first to its last.

    The length is the root mean square over voxels, in units of the normalised image.
    """
    flat = path.float().flatten(1)
    return (flat[1:] - flat[:-1]).square().mean(1).sqrt(), (flat[-1] - flat[0]).square().mean().sqrt()


def continuity(steps: Tensor, straight: Tensor, variation: float) -> dict[str, float]:
    """Return how evenly decoded images change on the straight way between two codes, mean over pairs.

    ``continuity_step``: mean length of a step over the mean distance of two real images; K even steps as far as two
    real images are apart have 1/K. ``continuity_path``: length of the path over the straight distance of its ends in
    image space, 1 at least; a latent space with folds makes detours. ``continuity_jump``: largest step over the mean
    step, between 1 (even) and K (one jump). After the path lengths of Karras et al. 2019 (StyleGAN), with the
    distance of images themselves in place of a network's.

    Args:
        steps: (pairs, K) lengths of the steps.
        straight: (pairs,) distances of the ends.
        variation: Mean distance of two real images.
    """
    return _known(
        {
            "continuity_step": float(steps.mean()) / max(variation, SMALLEST),
            "continuity_path": float((steps.sum(1) / straight).mean()),
            "continuity_jump": float((steps.amax(1) / steps.mean(1)).mean()),
        }
    )


def completeness(samples: Tensor, held_out: Tensor, training: Tensor) -> dict[str, float]:
    """Return how plausible decoded samples are, against reconstructions of cases that were held out.

    ``distance``: mean distance of a sample to its nearest training reconstruction, over that of a held-out one; about
    1 is as plausible as a held-out case, far above 1 is off the data, far below 1 an average image.
    ``precision``: share of samples within the manifold of the training reconstructions: the union of balls around
    them, each as far as to the third neighbour (Kynkäänniemi et al. 2019). ``coverage``: share of held-out
    reconstructions that have a sample nearer than their third neighbour in training (Naeem et al. 2020), low where
    samples are all alike; not a ball around samples, which stray ones make so large that it holds everything.

    Args:
        samples: (N, V) decoded samples.
        held_out: (M, V) reconstructions.
        training: (T, V) reconstructions.
    """
    near, usual = (_distances(points, training).amin(1).mean() for points in (samples, held_out))
    return _known(
        {
            "distance": float(near / usual),
            "precision": within(samples, training),
            "coverage": covered(held_out, samples, training),
        }
    )


def within(points: Tensor, manifold: Tensor) -> float:
    """Return the share of points (N, V) that lie in a ball around a point of the manifold (M, V), M > 1."""
    own = _distances(manifold, manifold)
    reach = own.sort(1).values[:, min(NEIGHBOURS, len(manifold) - 1)]  # the first is the point itself
    return float((_distances(points, manifold) <= reach).any(1).float().mean())


def covered(points: Tensor, samples: Tensor, training: Tensor) -> float:
    """Return the share of points (N, V) that have a sample (M, V) nearer than their third neighbour of (T, V)."""
    reach = _distances(points, training).kthvalue(min(NEIGHBOURS, len(training)), keepdim=True).values
    return float((_distances(points, samples) <= reach).any(1).float().mean())


def power_spectrum(images: Tensor) -> Tensor:
    """Return the power of images (N, C, *P) in ``BINS`` bands of spatial frequency (N, BINS), mean over channels.

    The mean of an image, frequency zero, is left out, and so is what lies beyond half a cycle a voxel (the corners);
    a band without a frequency is NaN.
    """
    size = images.shape[2:]
    over = tuple(range(2, images.ndim))
    power = torch.fft.fftn(images.float(), dim=over, norm="ortho").abs().square().mean(1).flatten(1)
    axes = torch.meshgrid(*[torch.fft.fftfreq(n, device=images.device) for n in size], indexing="ij")
    frequency = torch.stack(list(axes)).square().sum(0).sqrt().flatten()
    counted = (frequency > 0) & (frequency <= 0.5)
    band = (frequency[counted] * 2 * BINS).ceil().long().clamp(1, BINS) - 1
    total = torch.zeros(len(images), BINS, device=images.device).index_add_(1, band, power[:, counted])
    return total / torch.bincount(band, minlength=BINS)


def spectrum_distance(one: Tensor, other: Tensor) -> float:
    """Return the mean over bands of |log₁₀ of the mean power of one set of images over that of another|.

    0 is alike; 0.3 means that they differ by a factor of two. Decoders blur or ripple where they are not at home
    (after Durall et al. 2020).

    Args:
        one: (N, BINS) of ``power_spectrum``.
        other: (M, BINS).
    """
    ratio = one.mean(0).clamp_min(SMALLEST) / other.mean(0).clamp_min(SMALLEST)
    return float(ratio.log10().abs().nanmean())


def _distances(points: Tensor, others: Tensor) -> Tensor:
    """Return the root mean square difference of each point (N, V) to each other one (M, V), (N, M)."""
    # exact: by the product of matrices, as cdist does for many points, near ones lose their digits
    return torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist") / math.sqrt(points.shape[1])


def _known(figures: dict[str, float]) -> dict[str, float]:
    """Return the figures that are numbers: images that are all alike have no ratio."""
    return {name: value for name, value in figures.items() if math.isfinite(value)}
