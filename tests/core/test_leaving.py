"""A process of torchrun ends before PyTorch's threads can abort it; everything else about its end stays the same."""

import os
import signal
import subprocess
import sys

import pytest

ABORTS_LATE = """
import atexit, ctypes, sys
from segpipe.core.leaving import leaving_in_time

libc = ctypes.CDLL(None)
libc.__cxa_atexit(libc.abort, None, None)  # stands for PyTorch's destructors, which run when the interpreter is gone
with leaving_in_time():
    atexit.register(lambda: print("said at the end"))
    print("said")
    exec(sys.argv[1])
"""


def ended(how: str, world: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "WORLD_SIZE"}
    return subprocess.run(
        [sys.executable, "-c", ABORTS_LATE, how],
        env=environment | ({"WORLD_SIZE": world} if world else {}),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="a function of glibc")
@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("pass", 0),
        ("sys.exit(0)", 0),
        ("sys.exit()", 0),
        ("sys.exit(75)", 75),
        ("sys.exit('a message')", 1),
        ("raise ValueError('a bug')", 1),
        ("sys.stdout.close()", 0),
    ],
)
def test_one_of_two_processes_ends_with_its_own_code(how: str, code: int) -> None:
    done = ended(how, "2")
    assert done.returncode == code, done.stderr
    if "close" not in how:
        assert done.stdout.splitlines() == ["said", "said at the end"]
    if "'" in how:
        assert how.split("'")[1] in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="a function of glibc")
@pytest.mark.parametrize("world", ["", "1"])
def test_a_process_alone_ends_as_python_does(world: str) -> None:
    assert ended("pass", world).returncode == -signal.SIGABRT
