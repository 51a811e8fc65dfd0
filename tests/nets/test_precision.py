"""Number format and memory layout."""

import pytest
import torch

from segpipe.nets.layers import CHANNELS_LAST
from segpipe.nets.precision import best_device, computing, laid_out, tune, uses_bf16
from segpipe.nets.unet import UNetConfig


def test_a_device_that_is_wanted_is_taken() -> None:
    assert best_device("cpu") == "cpu"
    assert best_device("cuda:1") == "cuda:1"
    assert best_device() == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1"])
def test_a_precision_that_is_wanted_is_taken(device: str) -> None:
    assert uses_bf16("bf16", device)
    assert not uses_bf16("fp32", device)


@pytest.mark.parametrize(
    ("maker", "avx512_bf16", "amx", "fast"),
    [
        ("AMD EPYC", False, False, False),
        ("AMD EPYC", True, False, True),
        ("Intel Xeon", True, True, True),
        ("Intel Xeon", True, False, False),
    ],
)
def test_auto_is_bf16_where_the_processor_multiplies_it_faster(
    monkeypatch: pytest.MonkeyPatch, maker: str, avx512_bf16: bool, amx: bool, fast: bool
) -> None:
    found = {"cpu_name": maker, "avx512_bf16": avx512_bf16, "amx_bf16": amx}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    assert uses_bf16("auto", "cpu") is fast


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_inside_a_convolution_computes_in_the_format_and_outside_in_float32(precision: str, dtype: torch.dtype) -> None:
    layer = torch.nn.Conv2d(1, 2, 3)
    with computing(precision, "cpu"):
        assert layer(torch.ones(1, 1, 4, 4)).dtype == dtype
    assert layer(torch.ones(1, 1, 4, 4)).dtype == torch.float32
    assert layer.weight.dtype == torch.float32


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_network_laid_out_for_speed_says_the_same(rank: int, precision: str) -> None:
    torch.manual_seed(0)
    config = UNetConfig(features=8, deep_supervision=False)
    network = config.spec(1, 8, ((2,) * rank,), ((3,) * rank,) * 2).build().eval()
    image = torch.randn(2, 1, *(8, 12, 8)[:rank])
    before = network(image)
    network = laid_out(network, rank, "cpu")
    weights = [p for p in network.parameters() if p.ndim == rank + 2]
    assert all(p.is_contiguous(memory_format=CHANNELS_LAST[rank]) for p in weights)
    with computing(precision, "cpu"):
        after = network(image)
    assert torch.allclose(after.float(), before, atol=1e-4 if precision == "fp32" else 0.2)


@pytest.mark.parametrize(("device", "tuned"), [("cpu", False), ("cuda", True), ("cuda:1", True)])
def test_only_a_gpu_is_tuned(monkeypatch: pytest.MonkeyPatch, device: str, tuned: bool) -> None:
    asked: list[str] = []
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setattr(torch, "set_float32_matmul_precision", asked.append)
    tune(device)
    assert torch.backends.cudnn.benchmark is tuned
    assert asked == ["high"] * tuned
