"""What stands beyond the rim of an image that is mirrored there."""

import numpy as np
from numpy.typing import NDArray


def mirrored(count: int, first: int, size: int) -> NDArray[np.int64]:
    """Return (size,) which of ``count`` samples stand at the places from ``first`` on, along one axis.

    Beyond both ends they are mirrored, the outermost one not twice, again and again where that is far.
    """
    period = max(2 * (count - 1), 1)
    place = np.arange(first, first + size) % period
    return np.minimum(place, period - place)
