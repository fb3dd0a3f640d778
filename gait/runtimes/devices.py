"""Where networks run."""

from __future__ import annotations

import torch


def pick_device(name: str) -> torch.device:
    """Return the device of a name: "cpu", "cuda", "cuda:N", or "auto" (a GPU if there is one).

    Raises:
        ValueError: The name is no such device, or the machine has none.
    """
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda:0" if num_gpus else "cpu")
    known = {"cpu", "cuda"} | {f"cuda:{index}" for index in range(num_gpus)}
    if name not in known or (name == "cuda" and not num_gpus):
        raise ValueError(
            f"device: expected auto, cpu, cuda or cuda:N with N below the {num_gpus} CUDA "
            f"devices of this machine, got {name!r}"
        )
    return torch.device("cuda:0" if name == "cuda" else name)
