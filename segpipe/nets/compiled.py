"""Networks whose operations torch.compile has fused; as they were, where it cannot."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from segpipe.nets.decoder import Decoder
from segpipe.nets.encoder import Encoder


def compile_networks(task: nn.Module, tell: Callable[[str], None]) -> None:
    """Compile the encoders and decoders of a task in place; the names of its weights stay as they are.

    They are what takes the time. Losses stay as they are, since they may wait for other processes.

    Args:
        task: Any module that holds encoders and decoders, however deep.
        tell: Is told, once, where compiling fails; the networks run on as they were.
    """
    attempt = _Attempt(tell)
    for part in task.modules():
        if isinstance(part, Encoder | Decoder):
            part.forward = attempt.compiled(part.forward)  # type: ignore[method-assign]


class _Attempt:
    """One trial for all parts: what fails in one is tried in no other."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell = tell
        self.works = True

    def compiled(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        # the compiler is met at the first call, not here
        quick = torch.compile(forward)

        def run(*arguments: Any) -> Any:
            if not self.works:
                return forward(*arguments)
            try:
                return quick(*arguments)
            except Exception as error:  # noqa: BLE001 - compilers fail in their own ways
                found = forward(*arguments)  # raises by itself where the network is at fault
                self.works = False
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                self.tell(f"torch.compile fails here ({reason}); training goes on without it.")
                return found

        return run
