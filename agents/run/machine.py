"""The machine: device, threads, precision and free memory."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import os
import platform
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from agents.errors import ConfigError

if TYPE_CHECKING:
    from agents.config import TrainConfig

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""Options of mallopt(3)."""
VERSIONED = ("torch", "gymnasium", "ale-py", "numpy", "stable-baselines3", "minatar", "minigrid", "wandb")
"""Libraries whose version can change a result."""


@dataclass(frozen=True)
class MachineFacts:
    """The parts of the machine that a training's bits depend on: config.json keeps them, a resume restores them."""

    device: str
    """A torch device: cpu, cuda or cuda:1."""
    threads: int
    """Threads of the learner."""
    bf16: bool
    """Whether convolutions and memories compute in bfloat16."""


def which_device(name: str) -> str:
    """Return the device called `name`; auto prefers CUDA. Raise ConfigError for a missing or unknown device."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.split(":")[0] not in ("cpu", "cuda"):
        raise ConfigError(f"--device must be cpu, cuda or auto, not {name}")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"--device {name} was asked for, but torch sees no CUDA device here; use --device cpu")
    return name


def resolve(config: TrainConfig, convolutional: bool) -> MachineFacts:
    """Choose device, threads and precision where the config says `auto`; raise ConfigError for a missing device."""
    device = which_device(config.device)
    heavy = convolutional or config.core != "none"
    bf16 = config.precision == "bf16" or (config.precision == "auto" and heavy and fast_bf16(device))
    threads = config.threads or (usable_cores() if convolutional else 1)
    return MachineFacts(device, min(threads, 16), bf16)


def summary() -> str:
    """Return one line: torch's version, its device, cores and precision."""
    cuda = torch.cuda.is_available()
    device, precision = torch.cuda.get_device_name() if cuda else "CPU", fast_bf16("cuda" if cuda else "cpu")
    return f"torch {torch.__version__} on {device}, {usable_cores()} cores, {'bf16' if precision else 'fp32'}"


def usable_cores() -> int:
    """Return the cores that this process may use; in a container, they can be fewer than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available(facts: MachineFacts) -> MachineFacts:
    """Return a run's recorded facts, moved to the CPU where its GPU is missing, so that any machine can play it."""
    missing = facts.device.startswith("cuda") and not torch.cuda.is_available()
    return replace(facts, device="cpu", bf16=facts.bf16 and fast_bf16("cpu")) if missing else facts


def keep_large_blocks() -> None:
    """Make glibc keep freed large blocks instead of returning them to the system.

    Each training step allocates the same activations; without page faults, a DQN update on a CPU is a tenth faster.
    """
    with contextlib.suppress(OSError, AttributeError):  # not glibc: only the speed-up is lost
        libc = ctypes.CDLL("libc.so.6")
        for option, value in ((M_MMAP_THRESHOLD, 1 << 30), (M_TRIM_THRESHOLD, (1 << 31) - 1), (M_TOP_PAD, 64 << 20)):
            libc.mallopt(option, value)


def fast_bf16(device: str) -> bool:
    """Whether bfloat16 is faster than float32 on `device`: tensor cores, or a CPU with avx512_bf16 or amx."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported()
    # on plain AVX-512, oneDNN emulates bfloat16 at a quarter of float32's speed
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return bool(torch.backends.mkldnn.is_available() and native)


def available_memory() -> int:
    """Return the bytes of memory that are free now, within a container's limit."""
    import psutil

    available = psutil.virtual_memory().available
    for limit_file, used_file in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            with open(limit_file) as limit, open(used_file) as used:
                available = min(available, int(limit.read()) - int(used.read()))
        except (OSError, ValueError):
            continue
    return available


def hardware() -> dict[str, str | int | float | None]:
    """Return processor, cores, memory, operating system and GPU, for config.json."""
    import psutil

    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed libraries in VERSIONED."""
    installed = {"python": platform.python_version()}
    for name in VERSIONED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.version(name)
    return installed


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown")
    except OSError:
        return platform.processor() or "unknown"
