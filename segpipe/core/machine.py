"""The machine: switches of its libraries that must be set before torch is imported, and what it is made of."""

import contextlib
import ctypes
import os
import platform
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

SWITCHES = {
    # Threads that wait for each other by spinning hold up whoever they wait for, where anything else runs:
    # docs/decisions/003-short-spins.md has figures.
    "GOMP_SPINCOUNT": "1000",
    # Large pages for tensors, where Linux offers them: fewer page faults.
    "THP_MEM_ALLOC_ENABLE": "1",
}

LIBRARIES = ("torch", "numpy", "scipy", "monai", "scikit-image", "nibabel", "SimpleITK", "pydantic", "mlflow")
"""Those whose versions may move a figure."""

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


def described() -> dict[str, Any]:
    """Return system, processor, memory and versions of libraries; nothing that names the machine or who uses it."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "processors": os.cpu_count() or 1,
        "memory_gib": _memory_gib(),
        "libraries": versions(LIBRARIES),
    }


def versions(names: Sequence[str]) -> dict[str, str]:
    """Return the installed version of each library; one that is not there is left out. None is imported."""
    found = {}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _processor() -> str:
    with contextlib.suppress(OSError):  # Linux; elsewhere the standard library knows
        if match := re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE):
            return " ".join(match[1].split())
    return platform.processor()


def _memory_gib() -> float | None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    return None
