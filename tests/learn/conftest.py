"""A prepared case on disk, as small as can be."""

from pathlib import Path
from typing import Protocol

import numpy as np
import pytest

from segpipe.core.atomic import write_array, write_json
from segpipe.dataset.prepare import Prepared
from segpipe.imaging.geometry import Geometry


class MakeCase(Protocol):
    """Makes a case: noise, with a bright box of class 1 in its middle, and of any other class at its start."""

    def __call__(self, name: str, shape: tuple[int, ...], classes: tuple[int, ...] = (1,)) -> Prepared: ...


@pytest.fixture
def make_case(tmp_path: Path) -> MakeCase:
    """Return a maker of cases."""

    def make(name: str, shape: tuple[int, ...], classes: tuple[int, ...] = (1,)) -> Prepared:
        rng = np.random.default_rng([len(name), *name.encode()])
        folder = tmp_path / "cases" / name
        target = np.zeros((1, *shape), np.uint8)
        for value in classes:
            middle = [n // 2 - 1 if value == 1 else 2 * value for n in shape]
            target[(0, *[slice(first, first + 2) for first in middle])] = value
        image = rng.normal(size=(1, *shape)).astype(np.float16) + 5 * target.astype(np.float16)
        points = np.argwhere(target[0] > 0)
        write_array(folder / "image.npy", image)
        write_array(folder / "target.npy", target)
        write_array(folder / "labels.npy", target.astype(np.uint16))
        write_array(folder / "points.npy", np.column_stack([target[(0, *points.T)], points]).astype(np.int32))
        write_json(folder / "case.json", {"key": name, **Geometry(shape, np.eye(len(shape) + 1)).to_json()})
        return Prepared(name, folder)

    return make
