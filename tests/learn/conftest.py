"""A prepared case on disk, as small as can be."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from segpipe.core.atomic import write_array, write_json
from segpipe.dataset.prepare import Prepared
from segpipe.imaging.geometry import Geometry

MakeCase = Callable[[str, tuple[int, ...]], Prepared]


@pytest.fixture
def make_case(tmp_path: Path) -> MakeCase:
    """Return a maker of cases: noise, with a bright box of class 1 in the middle of each."""

    def make(name: str, shape: tuple[int, ...]) -> Prepared:
        rng = np.random.default_rng([len(name), *name.encode()])
        folder = tmp_path / "cases" / name
        target = np.zeros((1, *shape), np.uint8)
        target[(0, *[slice(n // 2 - 1, n // 2 + 1) for n in shape])] = 1
        image = rng.normal(size=(1, *shape)).astype(np.float16) + 5 * target.astype(np.float16)
        points = np.argwhere(target[0] == 1)
        write_array(folder / "image.npy", image)
        write_array(folder / "target.npy", target)
        write_array(folder / "labels.npy", target.astype(np.uint16))
        write_array(folder / "points.npy", np.column_stack([np.ones(len(points)), points]).astype(np.int32))
        write_json(folder / "case.json", {"key": name, **Geometry(shape, np.eye(len(shape) + 1)).to_json()})
        return Prepared(name, folder)

    return make
