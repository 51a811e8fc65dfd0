"""Puts the tests' own module where every test file finds it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
