"""Which number format and memory layout a network computes in on a device."""

import contextlib
from collections.abc import Iterator
from typing import Literal, TypeVar

import torch
from torch import nn

from segpipe.nets.layers import CHANNELS_LAST

Precision = Literal["auto", "fp32", "bf16"]
Network = TypeVar("Network", bound=nn.Module)


def best_device(wanted: str = "auto") -> str:
    """Return the device to compute on: what is wanted, or the GPU where there is one."""
    if wanted != "auto":
        return wanted
    return "cuda" if torch.cuda.is_available() else "cpu"


def all_gpus() -> tuple[str, ...]:
    """Return the names of all GPUs."""
    return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))


def gpu_name(device: str) -> str:
    """Return the name of the graphics card behind a device; empty for a processor."""
    return str(torch.cuda.get_device_name(device)) if device.startswith("cuda") else ""


def use_threads(count: int) -> None:
    """Compute with this many threads on the CPU, in this process."""
    torch.set_num_threads(count)


def uses_bf16(precision: Precision, device: str) -> bool:
    """Tell whether to compute in bfloat16; ``auto``: where the hardware multiplies it faster than float32."""
    if precision != "auto":
        return precision == "bf16"
    return fast_bf16(device)


def fast_bf16(device: str) -> bool:
    """Tell whether the hardware multiplies bfloat16 faster than float32.

    AMD's processors with AVX-512 BF16 do. Intel's need their matrix unit, which a virtual machine may hide: without
    it they multiply bfloat16 no faster, and convolve more slowly (benchmarks/number_format.py).
    """
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    processor = torch.cpu.get_capabilities()
    return has_amx() or (processor.get("avx512_bf16", False) and "Intel" not in processor.get("cpu_name", ""))


def has_amx() -> bool:
    """Tell whether the processor has a matrix unit."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def tune(device: str) -> None:
    """Set the switches of a GPU for training: sizes stay the same, so the fastest kernels are looked for once."""
    if device.startswith("cuda"):
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")


@contextlib.contextmanager
def computing(precision: Precision, device: str) -> Iterator[None]:
    """Compute in bfloat16 inside, where ``precision`` says so; weights stay float32."""
    with torch.autocast(device.split(":", maxsplit=1)[0], torch.bfloat16, enabled=uses_bf16(precision, device)):
        yield


def laid_out(network: Network, rank: int, device: str) -> Network:
    """Return the network on the device, in the channels-last layout, which bf16 convolutions want."""
    return network.to(device=device).to(memory_format=CHANNELS_LAST[rank])  # type: ignore[call-overload,no-any-return]
