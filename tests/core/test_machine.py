"""Switches for libraries that read them once, when they are loaded."""

import os
import socket
import subprocess
import sys

import pytest

from segpipe.core.machine import SWITCHES, described, set_switches, versions


def test_each_switch_is_set_where_the_user_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = SWITCHES
    monkeypatch.setenv(first, "mine")
    for name in others:
        monkeypatch.delenv(name, raising=False)
    assert others
    set_switches()
    assert os.environ[first] == "mine"
    assert {name: os.environ[name] for name in others} == {name: SWITCHES[name] for name in others}


@pytest.mark.skipif(sys.platform != "linux", reason="a switch of glibc")
def test_what_large_tensors_leave_is_given_back() -> None:
    """Between two kept blocks, freed memory of 24 MiB in pieces of 6 goes back to the system."""
    told = subprocess.run([sys.executable, "-c", FREEING], capture_output=True, text=True, check=True).stdout
    without, with_switch = map(int, told.split())
    assert with_switch <= 8 * 2**20 < without


FREEING = """
import ctypes, os, resource
from pathlib import Path
from segpipe.core.machine import set_switches
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
def left_over():
    before, kept, freed = resident(), [], []
    for _ in range(4):
        freed.append(libc.malloc(6 * 2**20)); ctypes.memset(freed[-1], 1, 6 * 2**20)
        kept.append(libc.malloc(2**10)); ctypes.memset(kept[-1], 1, 2**10)
    for block in freed:
        libc.free(block)
    return resident() - before
libc.free(libc.malloc(30 * 2**20))  # glibc now takes blocks of up to 30 MiB from its heap
first = left_over()
set_switches()
print(first, left_over())
"""


def test_the_machine_is_described_without_its_name() -> None:
    told = described()
    assert told["processors"] >= 1
    assert told["libraries"]["torch"] == versions(["torch"])["torch"]
    assert socket.gethostname() not in str(told)
    assert versions(["there-is-no-such-library"]) == {}
