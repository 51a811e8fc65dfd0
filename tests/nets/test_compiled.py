"""Networks that torch.compile has fused, and those where it cannot."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from segpipe.nets.compiled import compile_networks
from segpipe.nets.unet import UNet, UNetConfig

IMAGE = torch.ones(1, 1, 8, 8)


def network() -> UNet:
    torch.manual_seed(0)
    return UNetConfig(features=4).spec(1, 2, ((2, 2),), ((3, 3),) * 2).build()


def test_encoder_and_decoder_are_compiled_and_the_weights_keep_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def compiler(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def quick(*arguments: Tensor) -> Tensor:
            calls.append(type(forward.__self__).__name__)  # type: ignore[attr-defined]
            return forward(*arguments)

        return quick

    monkeypatch.setattr(torch, "compile", compiler)
    plain, fused = network(), network()
    compile_networks(fused, pytest.fail)
    assert torch.equal(fused(IMAGE), plain(IMAGE))
    assert calls == ["Encoder", "Decoder"]
    assert list(fused.state_dict()) == list(plain.state_dict())


def test_a_failure_is_told_once_and_tried_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[object] = []

    def compiler(forward: object) -> Callable[..., Tensor]:
        def fail(*arguments: object) -> Tensor:
            tried.append(forward)
            raise RuntimeError("no compiler\nhere")

        return fail

    monkeypatch.setattr(torch, "compile", compiler)
    told: list[str] = []
    plain, fused = network(), network()
    compile_networks(fused, told.append)
    for _ in range(2):
        assert torch.equal(fused(IMAGE), plain(IMAGE))
    assert told == ["torch.compile fails here (no compiler); training goes on without it."]
    assert len(tried) == 1


def test_an_error_of_the_network_itself_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda forward: forward)
    fused = network()
    compile_networks(fused, pytest.fail)
    with pytest.raises(RuntimeError):
        fused(torch.ones(1, 3, 8, 8))
