"""Switches of the machine's libraries that must be set before torch is imported."""

import contextlib
import ctypes
import os

SWITCHES = {
    # Threads that wait for each other by spinning hold up whoever they wait for, where anything else runs:
    # docs/decisions/003-short-spins.md has figures.
    "GOMP_SPINCOUNT": "1000",
    # Large pages for tensors, where Linux offers them: fewer page faults.
    "THP_MEM_ALLOC_ENABLE": "1",
}


MMAP_THRESHOLD = -3
"""The name of M_MMAP_THRESHOLD in glibc's malloc.h."""
LARGE = 4 * 2**20
"""Bytes from which memory is given back to the system when it is freed."""


def set_switches() -> None:
    """Set each switch that the user has not set; in effect for libraries loaded afterwards."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
    if "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        # otherwise glibc keeps what large tensors leave in its heap: half as much memory again after a training
        with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
            ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, LARGE)
