"""What the machine offers: processor cores, the device to train on, the precision that it is fast in."""

import os

import torch

from .errors import GanaugError


def num_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def resolve_device(name: str) -> torch.device:
    """`auto` is the GPU if there is one. Raises `GanaugError` for a device that this machine lacks."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise GanaugError(f"unknown device {name!r}; expected auto, cpu, cuda or cuda:N.") from None
    if device.type not in ("cpu", "cuda"):
        raise GanaugError(f"device {name!r} is not supported; expected auto, cpu, cuda or cuda:N.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise GanaugError(
            f"device {name!r} is not on this machine, which has {torch.cuda.device_count()} GPUs; use --device cpu."
        )
    return device


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """The type for autocast: bf16 where the hardware computes in it, else fp32."""
    if name == "fp32":
        return torch.float32
    if name == "bf16":
        return torch.bfloat16
    if device.type == "cuda":
        with torch.cuda.device(device):
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:  # elsewhere a processor emulates bf16, slowly
        has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        fast = has_onednn and torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if fast else torch.float32
