"""How a process ends that trained together with others."""

import atexit
import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def leaving_in_time() -> Iterator[None]:
    """Around a whole program: one of several processes of ``torchrun`` ends before PyTorch can abort.

    ``DistributedDataParallel`` keeps gloo's threads although its group was destroyed, and at times PyTorch aborts over
    them when the interpreter is gone (github.com/pytorch/pytorch/issues/190489): ``torchrun`` would then call a
    training failed that saved everything. All that Python does at its end is still done; the exit code is the same.
    """
    if os.environ.get("WORLD_SIZE", "") in ("", "1"):
        yield
        return
    ended = _Ended()
    atexit.register(ended)  # before any library registers its own: the first is called last
    try:
        yield
        ended.code = 0
    except SystemExit as end:
        ended.code = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise


class _Ended:
    """Ends the process at once, with a code that is known only later."""

    code = 1
    """Python's own after an error that nobody caught."""

    def __call__(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or whoever reads is gone
                stream.flush()
        os._exit(self.code)
