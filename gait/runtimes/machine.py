"""What a measurement was taken on, in one line: figures mean nothing without it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

_TELLING_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "neon")
"""Of a processor's flags, those that decide how fast networks run on it."""

_BUSY = 0.2
"""Cores that others keep at work from which a machine counts as busy."""


def describe_machine(
    *, device: str = "cpu", packages: Sequence[str] = (), root: Path | None = None
) -> str:
    """Return processor, cores, memory, accelerator, versions and commit in one line.

    Args:
        device: What was measured on; "cuda" or "cuda:N" names the accelerator.
        packages: Distributions whose versions matter; those not installed are left out.
        root: A folder of the repository whose commit is named; None names none.
    """
    parts = [_processor(), f"{os.cpu_count()} cores", f"{memory_gib():.0f} GiB"]
    parts.append(_accelerator(device))
    parts.append(f"Python {platform.python_version()}")
    parts += [f"{name} {version}" for name, version in versions(packages).items()]
    if root is not None:
        parts.append(f"commit {_commit(root)}")
    return ", ".join(parts)


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of those distributions that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_gib() -> float:
    """Return how much memory the machine has; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (ValueError, OSError, AttributeError):
        return 0.0


class OtherWork:
    """What other processes took of the machine since this was made."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._others_s = _others_cpu_s()

    def busy_cores(self) -> float | None:
        """Return how many cores others kept busy on average; None where the system does not say."""
        now_s, others_s = time.monotonic(), _others_cpu_s()
        if self._others_s is None or others_s is None or now_s <= self._began_s:
            return None
        return max(0.0, (others_s - self._others_s) / (now_s - self._began_s))

    def warnings(self) -> tuple[str, ...]:
        """Return a warning if others took so much that speeds suffered."""
        busy = self.busy_cores()
        if busy is None or busy < _BUSY:
            return ()
        return (
            f"the machine was busy (others kept {busy:.1f} of {os.cpu_count()} cores at work): "
            "trust the ratios, which were taken in turns, more than the speeds",
        )


def _others_cpu_s() -> float | None:
    """Return the processors' time in other processes than ours since the machine began."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
    except (OSError, ValueError):
        return None
    busy = user + nice + system + irq + softirq + steal
    own = os.times()
    ours_s = own.user + own.system + own.children_user + own.children_system
    return busy / os.sysconf("SC_CLK_TCK") - ours_s


def _processor() -> str:
    """Return the processor's name and the flags that matter."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    name = facts.get("model name") or platform.machine()
    if "cpu family" in facts:
        name += f" (family {facts['cpu family']} model {facts.get('model', '?')})"
    has = set((facts.get("flags") or facts.get("Features") or "").split())
    return " ".join([name, *(flag for flag in _TELLING_FLAGS if flag in has)])


def _accelerator(device: str) -> str:
    if not device.startswith("cuda"):
        return "no accelerator"
    import torch

    index = torch.device(device).index or 0
    major, minor = torch.cuda.get_device_capability(index)
    memory = torch.cuda.get_device_properties(index).total_memory / 2**30
    return f"{torch.cuda.get_device_name(index)} (SM {major}.{minor}, {memory:.0f} GiB)"


def _commit(root: Path) -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        cwd=root,
        check=False,
    )
    return found.stdout.strip() or "unknown"
