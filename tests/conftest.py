"""Puts the tests' own modules where every test file finds them, and short thread spins in effect."""

import os
import sys
from pathlib import Path

import hypothesis
import pytest

from segpipe.core.machine import set_switches

sys.path.insert(0, str(Path(__file__).parent))
set_switches()
SIDE_BY_SIDE = "PYTEST_XDIST_WORKER" in os.environ
if SIDE_BY_SIDE:  # another one is at work on each of the other cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# how long an example takes says more about the machine's other work than about the code
hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("busy")

from report_artifacts import Made, cohort  # noqa: E402 - only now found, and torch must see the switches


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Side by side, begin with the files that take longest: who comes to one of them last would work alone."""
    if SIDE_BY_SIDE:
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """All stages, two damaged cases, and folders that name a person."""
    root = tmp_path_factory.mktemp("of jane-doe")
    return cohort(root, 12, damaged=2).upto_evaluate(preprocessed=True, trained=True)


@pytest.fixture(scope="module")
def page(whole: Made) -> str:
    return whole.report()
