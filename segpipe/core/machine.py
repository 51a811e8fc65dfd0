"""Switches of the machine's libraries that must be set before torch is imported."""

import os

SWITCHES = {
    # Threads that wait for each other by spinning hold up whoever they wait for, where anything else runs:
    # docs/decisions/003-short-spins.md has figures.
    "GOMP_SPINCOUNT": "1000",
    # Large pages for tensors, where Linux offers them: fewer page faults.
    "THP_MEM_ALLOC_ENABLE": "1",
}


def set_switches() -> None:
    """Set each switch that the user has not set; in effect for libraries loaded afterwards."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
