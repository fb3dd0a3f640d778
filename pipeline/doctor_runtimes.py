"""What the doctor says of runtimes: who can run the encoder, and who has passed the gate here."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator

from gait.errors import CheckpointError, GaitError
from gait.runtimes.runtime import RuntimeName
from pipeline.errors import ModelError
from pipeline.finding import Finding
from pipeline.stages.encode import RANDOM, read_card
from pipeline.weights import DEFAULT_ENCODER

CURES: dict[RuntimeName, str] = {
    "torch": "pip install torch",
    "onnxruntime": "pip install onnxruntime, or onnxruntime-gpu in its place for a GPU",
    "tensorrt": "on an NVIDIA GPU: pip install tensorrt-rtx-cu13, or tensorrt from the vendor",
    "openvino": "pip install '.[openvino]'; used only where it is named",
}
_DISTRIBUTIONS: dict[RuntimeName, tuple[str, ...]] = {
    "torch": ("torch",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "tensorrt": ("tensorrt", "tensorrt-rtx-cu13", "tensorrt-rtx-cu12"),
    "openvino": ("openvino",),
}


def runtimes() -> Iterator[Finding]:
    """Say which runtimes can run the encoder on the device that "auto" takes, and in what."""
    from gait.runtimes.choose import AUTO_PRECISION, ORDER, why_not
    from gait.runtimes.devices import pick_device

    device = pick_device("auto")
    precision, order = AUTO_PRECISION[device.type], ORDER[device.type]
    for name in dict.fromkeys((*order, *_DISTRIBUTIONS)):
        version = _version(name)
        problem = f"not installed; {CURES[name]}" if version is None else None
        if problem is None and (reason := why_not(name, device, precision)):
            problem = f"{version}, but {reason}; {CURES[name]}"
        turn = f"asked {'first' if name == order[0] else 'next'}" if name in order else "by name"
        if problem is None:
            yield Finding(f"runtime {name}", "ok", f"{version}: {precision} on {device}, {turn}")
        else:
            yield Finding(f"runtime {name}", "absent", problem)


def cache() -> Iterator[Finding]:
    """Say where graphs, engines and verdicts are kept, and what the gate said of the encoder."""
    from gait.runtimes.cache import cache_folder
    from gait.runtimes.parity import known_verdicts

    try:
        folder = cache_folder()
        size_mb = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
        verdicts = known_verdicts()
    except (GaitError, OSError) as error:
        yield Finding("cache folder", "problem", str(error))
        return
    yield Finding("cache folder", "ok", f"{folder}, {size_mb:.0f} MB")
    wanted = _model_hash()
    own = [verdict for verdict in verdicts if verdict.model_hash == wanted]
    for verdict in sorted(own, key=lambda each: each.runtime):
        mark = "passed" if verdict.passed else f"REFUSED ({verdict.reason})"
        yield Finding(
            "parity gate",
            "ok" if verdict.passed else "absent",
            f"{verdict.runtime}: {mark}, {verdict.figures}",
        )
    if not own:
        yield Finding(
            "parity gate", "ok", f"nothing but torch has run {DEFAULT_ENCODER} here so far"
        )


def _version(name: RuntimeName) -> str | None:
    for distribution in _DISTRIBUTIONS[name]:
        try:
            return f"{distribution} {importlib.metadata.version(distribution)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _model_hash() -> str | None:
    """Return the hash of the network that recognises people when nothing is configured."""
    try:
        card = None if DEFAULT_ENCODER == RANDOM else read_card(DEFAULT_ENCODER)
    except (CheckpointError, ModelError):
        return None  # the doctor says so elsewhere
    return None if card is None else card.model_hash
