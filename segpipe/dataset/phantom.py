"""A made-up cohort: a bent two-part structure among look-alikes, to show and test the pipeline offline.

The structure is no brighter than the things that touch it: no threshold finds it, its shape must be learned.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt
from scipy import ndimage
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from segpipe.core.atomic import write_json
from segpipe.core.section import Section
from segpipe.imaging.files import write_volume
from segpipe.imaging.geometry import Geometry
from segpipe.imaging.volume import Volume

Floats = NDArray[np.float64]

HEAD, TAIL = 1, 2
SAMPLES = 48
"""Points along the centre line: at most 0.9 mm apart, so the tube of their balls is smooth to 0.03 mm."""
MARGIN = 1.5
"""Least distance between the structure and the rim of the grid, in mm."""
OVERLAP = 1.5
"""How deep a touching look-alike reaches into its neighbour, in mm: a threshold would part mere tangents."""
CLEARANCE = 0.8
"""Least gap between a look-alike and the tail, in mm: less than a voxel in most cases."""
TOUCHING = 8
"""Look-alikes of a case that must touch: without them the largest component could be the structure alone."""
NEAREST, REACH = 3.0, 9.0
"""A look-alike's centre lies at least so far from all else, and a touching one's at most so far, in mm."""
TRIALS = 60
"""Look-alikes that are tried before a crowded case is taken as it is."""
CORE, CORE_MM = 0.15, 2.0
"""How much darker the structure is at its centre line, as a share, and how far from it (mm) that is seen."""
OBLIQUE = 0.4
"""Share of the cases whose axes lie aslant in the world."""
BLUR = 0.45
"""Standard deviation of the scanner's point spread, in voxels."""


class PhantomConfig(Section):
    """A made-up cohort."""

    cases: PositiveInt = 24
    """How many cases to make. A case does not depend on how many there are."""
    seed: NonNegativeInt = 0
    """Another seed gives other cases."""


@dataclass(frozen=True, eq=False)
class Body:
    """The structure: the union of balls along a centre line.

    Args:
        points: (N, 3) centres in mm, RAS, from the head's tip to the tail's.
        radii: (N,) in mm.
        parts: (N,) label value of each ball.
    """

    points: Floats
    radii: Floats
    parts: NDArray[np.uint8]

    def depth(self, points: Floats) -> tuple[Floats, NDArray[np.intp]]:
        """Return the signed distance (mm, negative inside) of points (M, 3), and which ball is nearest."""
        distances = cdist(points, self.points) - self.radii
        nearest = distances.argmin(axis=1)
        return distances[np.arange(len(points)), nearest], nearest

    def half_extent(self, directions: Floats) -> Floats:
        """Return how far (3,), in mm, the body reaches from the origin along unit directions (columns)."""
        reach = np.abs(self.points @ directions) + self.radii[:, None]
        return np.asarray(reach.max(axis=0), np.float64)


@dataclass(frozen=True, eq=False)
class Solid:
    """A look-alike: a box without volume, swollen by a radius. A ball, a straight tube or a plate.

    Args:
        centre: (3,) in mm.
        axes: (3, 3), its own directions as columns.
        half: (3,) half the box's sides in mm: none for a ball, one for a tube, two for a plate.
        radius: In mm.
    """

    centre: Floats
    axes: Floats
    half: Floats
    radius: float

    def depth(self, points: Floats) -> Floats:
        """Return the signed distance (mm, negative inside) of points (M, 3)."""
        # einsum and no @: the same sum on every machine, and no BLAS threads for three columns
        local = np.einsum("mk,kj->mj", points - self.centre, self.axes)
        outside = np.maximum(np.abs(local) - self.half, 0)
        return np.asarray(np.sqrt(np.einsum("mk,mk->m", outside, outside)) - self.radius, np.float64)


@dataclass(frozen=True, eq=False)
class Scene:
    """What lies in the field of view, voxel by voxel.

    Args:
        depth: (M,) signed distance in mm to the nearest thing.
        value: (M,) brightness of that thing; the tail's is 1.
    """

    depth: Floats
    value: Floats

    def joined(self, depth: Floats, value: float) -> "Scene":
        """Return the scene with one more thing in it."""
        return Scene(np.minimum(self.depth, depth), np.where(depth < self.depth, value, self.value))


def make_case(index: int, seed: int) -> tuple[Volume, Volume]:
    """Return one case of the cohort of a seed: image (1, X, Y, Z) float32 and label (1, X, Y, Z) uint8.

    Args:
        index: The number in the case's name, from 1.
        seed: Of the cohort.
    """
    rng = np.random.default_rng([seed, index])
    body = _body(rng)
    geometry = _grid(rng, body)
    points = geometry.world(np.indices(geometry.shape).reshape(3, -1).T)
    depth, nearest = body.depth(points)
    parts, inward = body.parts[nearest], depth + body.radii[nearest]
    layers = 1 - CORE * np.exp(-((inward / CORE_MM) ** 2))
    scene = Scene(depth, np.where(parts == HEAD, rng.uniform(1.08, 1.12), 1.0) * layers)
    # what touches the thin tail would end it in another place than the label says: there, the gap is kept
    guarded = np.where(parts == TAIL, depth - OVERLAP - CLEARANCE, depth)
    scene = _with_look_alikes(rng, points, scene, guarded)
    image = _scanned(rng, scene, geometry)
    label = np.where(depth < 0, parts, np.uint8(0)).reshape(geometry.shape)
    # until here the structure lies about the world's origin: a scanner's zero point tells nothing of the kind
    affine = geometry.affine.copy()
    affine[:3, 3] += rng.uniform(-40, 40, 3)
    moved = Geometry(geometry.shape, affine)
    return Volume(image[None], moved), Volume(label[None], moved)


def write_cohort(folder: Path, config: PhantomConfig) -> None:
    """Write the cohort in Medical Segmentation Decathlon layout, the list last: it vouches for the rest."""
    training = []
    for index in range(1, config.cases + 1):
        image, label = make_case(index, config.seed)
        name = f"phantom_{index:03d}.nii.gz"
        # the values are whole already: half the bytes for the same image
        write_volume(folder / "imagesTr" / name, Volume(image.array.astype(np.int16), image.geometry))
        write_volume(folder / "labelsTr" / name, label)
        training.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    write_json(folder / "dataset.json", _description(training))


def _description(training: list[dict[str, str]]) -> dict[str, object]:
    return {
        "name": "Phantom",
        "description": "Made-up images: a bent two-part structure among look-alikes of the same brightness.",
        "reference": "segpipe phantom",
        "licence": "CC0",
        "release": "1.0",
        "tensorImageSize": "3D",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", str(HEAD): "head", str(TAIL): "tail"},
        "numTraining": len(training),
        "numTest": 0,
        "training": training,
        "test": [],
    }


def _body(rng: np.random.Generator) -> Body:
    """Return a structure about the origin: head in front, tail behind and curling up, moderately turned."""
    along = np.linspace(0, 1, SAMPLES)
    length, bend = rng.uniform(33, 40), np.radians(rng.uniform(70, 120))
    # the exponent puts more of the bend into the tail: curvature, too, tells the parts apart
    pitch = bend * along ** rng.uniform(1.1, 1.5)
    pitch -= pitch.mean()
    yaw = np.radians(rng.uniform(-15, 15)) * along
    step = np.stack([np.sin(yaw), -np.cos(pitch) * np.cos(yaw), np.sin(pitch) * np.cos(yaw)], axis=1)
    points = np.cumsum(step, axis=0) * (length / SAMPLES)
    border = rng.uniform(0.32, 0.4)
    head, tail = rng.uniform(5.5, 7), rng.uniform(3.9, 4.5)
    taper = 1 - 0.06 * np.clip((along - border) / (1 - border), 0, 1)
    radii = np.where(along < border, head, tail * taper)
    turned = points @ _turn(rng, 18).T
    middle = (turned.min(axis=0) + turned.max(axis=0)) / 2
    return Body(turned - middle, radii, np.where(along < border, HEAD, TAIL).astype(np.uint8))


def _turn(rng: np.random.Generator, degrees: float) -> Floats:
    """Return a rotation (3, 3) about any axis, by at most so many degrees."""
    axis = rng.standard_normal(3)
    angle = np.radians(rng.uniform(0, degrees))
    return np.asarray(Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix(), np.float64)


def _grid(rng: np.random.Generator, body: Body) -> Geometry:
    """Return a grid that holds the body anywhere in it, its axes stored in any order and direction."""
    oblique = _turn(rng, 12) if rng.random() < OBLIQUE else np.eye(3)
    directions = oblique[:, rng.permutation(3)] * rng.choice([-1.0, 1.0], 3)
    shape = rng.integers(40, 57, 3)
    needed = body.half_extent(directions) + MARGIN
    spacing = np.maximum(rng.uniform(0.8, 1.4, 3), 2 * needed / (shape - 1))
    room = spacing * (shape - 1) / 2 - needed
    centre = directions @ (rng.uniform(-1, 1, 3) * room)
    affine = np.eye(4)
    affine[:3, :3] = directions * spacing
    affine[:3, 3] = centre - affine[:3, :3] @ ((shape - 1) / 2)
    return Geometry(tuple(int(n) for n in shape), affine)


def _with_look_alikes(rng: np.random.Generator, points: Floats, scene: Scene, guarded: Floats) -> Scene:
    """Return the scene with solids until they take several times the structure's room.

    ``guarded`` (M,) is the signed distance, in mm, to what a solid has to keep its gap from.
    """
    structure = np.count_nonzero(scene.depth < 0)
    # a third of a small grid at most: there must be room to put them
    wanted = min(structure * (1 + rng.uniform(3.5, 5)), 0.33 * len(points))
    placed = 0
    for _ in range(TRIALS):
        touching = placed < TOUCHING
        free = np.flatnonzero((guarded > NEAREST) & (guarded < (REACH if touching else np.inf)))
        solid = _solid(rng, points[rng.choice(free)])
        depth = _fitted(solid, points, guarded, -OVERLAP if touching else rng.uniform(0, 2.5))
        if depth is None:
            continue
        guarded = np.minimum(guarded, depth)
        scene = scene.joined(depth, rng.uniform(1.0, 1.16))
        placed += 1
        if placed >= TOUCHING and np.count_nonzero(scene.depth < 0) >= wanted:
            break
    return scene


def _solid(rng: np.random.Generator, centre: Floats) -> Solid:
    axes = Rotation.from_quat(rng.standard_normal(4)).as_matrix()
    kind = rng.integers(3)
    half = np.where(np.arange(3) < kind, rng.uniform(6, 13, 3), 0.0)
    radius = (rng.uniform(4, 7), rng.uniform(3.5, 6.5), rng.uniform(2, 3.5))[kind]
    return Solid(centre, np.asarray(axes, np.float64), half, float(radius))


def _fitted(solid: Solid, points: Floats, guarded: Floats, gap: float) -> Floats | None:
    """Return the depth (M,) of the solid, swollen or shrunk to keep so many mm from all else.

    With a gap of 0 or more it is never swollen, and may lie farther off. None if the change would deform it.
    """
    depth = solid.depth(points)
    # the distances to two things sum up to the gap between them on the line that joins them, else to more
    excess = float((depth + guarded).min()) - gap
    change = excess if gap < 0 else min(excess, 0.0)
    return depth - change if abs(change) < 0.35 * solid.radius else None


def _scanned(rng: np.random.Generator, scene: Scene, geometry: Geometry) -> NDArray[np.float32]:
    """Return the scene as a scanner shows it: (X, Y, Z), whole numbers on a scale of this case's own."""
    voxel = float(np.prod(geometry.spacing)) ** (1 / 3)
    covered = np.clip(0.5 - scene.depth / voxel, 0, 1)
    ground = rng.uniform(0.3, 0.55)
    tissue = (ground + (scene.value - ground) * covered).reshape(geometry.shape)
    signal = ndimage.gaussian_filter(tissue, BLUR) * _bias(rng, geometry.shape)
    signal = signal ** rng.uniform(0.8, 1.25)
    noise = rng.uniform(0.02, 0.045) * rng.standard_normal((2, *geometry.shape))
    rician = np.hypot(signal + noise[0], noise[1])
    scale, offset = np.exp(rng.uniform(np.log(200), np.log(3000))), rng.uniform(0, 300)
    return np.asarray(np.rint(rician * scale + offset), np.float32)


def _bias(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Return a smooth factor of mean about 1 that varies more over a case than head and tail differ."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij", sparse=True)
    field = np.zeros(shape)
    for _ in range(3):
        a, b, c = rng.normal(0, 1.2, 3)
        field += np.cos(a * x + b * y + c * z + rng.uniform(0, 2 * np.pi))
    field -= field.mean()
    return np.asarray(np.exp(rng.uniform(0.15, 0.25) * field / np.abs(field).max()), np.float64)
