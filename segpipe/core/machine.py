"""Switches of the machine's libraries that must be set before torch is imported."""

import os

SWITCHES = {
    # Threads of a parallel region that wait for each other by spinning hold up whoever they wait for:
    # with one other busy process on two cores, a training step took 8 times as long as with short spins.
    "GOMP_SPINCOUNT": "1000",
    # Large pages for tensors: 5 to 8 % of a training step on Linux.
    "THP_MEM_ALLOC_ENABLE": "1",
}


def set_switches() -> None:
    """Set each switch that the user has not set; in effect for libraries loaded afterwards."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
