"""Puts the tests' own modules where every test file finds them, and short thread spins in effect."""

import os
import sys
from pathlib import Path

import pytest

from segpipe.core.machine import set_switches

sys.path.insert(0, str(Path(__file__).parent))
set_switches()
if "PYTEST_XDIST_WORKER" in os.environ:  # another one is at work on each of the other cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from report_artifacts import Made, cohort  # noqa: E402 - only now found, and torch must see the switches


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """All stages, two damaged cases, and folders that name a person."""
    root = tmp_path_factory.mktemp("of jane-doe")
    return cohort(root, 12, damaged=2).upto_evaluate(preprocessed=True, trained=True)


@pytest.fixture(scope="module")
def page(whole: Made) -> str:
    return whole.report()
