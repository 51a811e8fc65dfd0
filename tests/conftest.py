"""Puts the tests' own modules where every test file finds them, and short thread spins in effect."""

import sys
from pathlib import Path

from segpipe.core.machine import set_switches

sys.path.insert(0, str(Path(__file__).parent))
set_switches()
