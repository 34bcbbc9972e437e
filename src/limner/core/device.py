"""Device, precision and process settings."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


def select_device(device: str = "auto", local_rank: int = 0) -> torch.device:
    """Return a device; `auto` is CUDA, else Apple's MPS, else the CPU. Raises ValueError for an unavailable device."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", local_rank)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"The device {device!r} cannot be used here: choose auto, cpu, cuda or mps.") from error
    return torch.device("cuda", local_rank) if device == "cuda" else chosen


def precision(device: torch.device, wanted: str = "auto") -> torch.dtype:
    """Return the autocast dtype: for `auto`, bf16 where the hardware has native support, else fp32.

    Raises ValueError for anything but `auto`, `bf16` and `fp32`.
    """
    if wanted not in ("auto", "bf16", "fp32"):
        raise ValueError(f"The precision {wanted!r} is unknown: choose auto, bf16 or fp32.")
    if wanted != "auto":
        return torch.bfloat16 if wanted == "bf16" else torch.float32
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        # AVX-512 alone emulates bf16 in oneDNN and is slower than fp32: only the native instructions count.
        fast = torch.backends.mkldnn.is_available() and cpu_has_bf16()
    else:
        fast = False
    return torch.bfloat16 if fast else torch.float32


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error is due to a lack of memory: PyTorch states this in the message only, for every device."""
    message = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(text in message for text in ("out of memory", "can't allocate memory", "bad_alloc"))
    )


def full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which autocast is off; on the meta device, which has no autocast, it does nothing."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """Return `torch.autocast` for the device; disabled for fp32."""
    return torch.autocast(device.type, precision, enabled=precision != torch.float32)


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the default generators of the CPU and of the device.

    `torch.manual_seed` also seeds every other kind of device, and notes the caller's stack for those that are not in use:
    a tenth of a millisecond, which an iteration of small networks can feel.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def name_of(precision: torch.dtype) -> str:
    """`bf16` or `fp32`, as `precision` takes it."""
    return "bf16" if precision == torch.bfloat16 else "fp32"


def cpu_has_bf16() -> bool:
    """Return whether this CPU multiplies bf16 natively (AVX512_BF16 or AMX on x86)."""
    capabilities = torch.backends.cpu.get_cpu_capability()
    if not capabilities.startswith("AVX512"):
        return False
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123 - a pseudo-file
            flags = next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def configure_runtime(threads: int | None = None) -> None:
    """Set process-wide options: the number of threads, and an allocator that keeps freed memory.

    glibc returns every large block to the kernel when it is freed. A training step frees and allocates the same hundreds
    of megabytes each iteration, and page faults then take a third of the time. Call it before the first large tensor.
    """
    if threads:
        torch.set_num_threads(threads)
    if sys.platform == "linux":
        try:
            libc = ctypes.CDLL(None)
            m_trim_threshold, m_mmap_threshold = -1, -3  # malloc.h
            libc.mallopt(m_mmap_threshold, 1 << 30)
            libc.mallopt(m_trim_threshold, 2**31 - 1)
        except (OSError, AttributeError):  # another libc (musl): nothing to set
            pass
    torch.backends.cudnn.benchmark = True
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")


def most_threads() -> int:
    """Return the most CPU threads worth trying: PyTorch's default (see OMP_NUM_THREADS), at most the available cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(torch.get_num_threads(), cores))


def describe(device: torch.device) -> str:
    """`CPU, 2 threads` or `CUDA: NVIDIA H100`."""
    if device.type == "cuda":
        return f"CUDA: {torch.cuda.get_device_name(device)}"
    if device.type == "cpu":
        n = torch.get_num_threads()
        return f"CPU, {n} thread" + ("s" if n > 1 else "")
    return device.type.upper()


class _Uninitialized(TorchFunctionMode):
    """Leaves tensors as they are where they are initialized: in `torch.nn.init`, `torch.randn` and `normalize`."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init" or func is torch.nn.functional.normalize:
            return args[0] if args else next(iter(kwargs.values()))
        return (torch.empty if func is torch.randn else func)(*args, **(kwargs or {}))


@contextmanager
def on_meta() -> Iterator[None]:
    """Make tensors without content: networks that are only measured, or whose weights are loaded afterwards.

    Initialization is skipped. On the meta device it computes nothing, but its first call imports PyTorch's compiler, which
    takes over a second.
    """
    with torch.device("meta"), _Uninitialized():
        yield
