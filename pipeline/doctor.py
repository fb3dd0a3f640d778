"""What this machine has and what it lacks: `trackletgait doctor`."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline import doctor_runtimes
from pipeline.finding import Finding, Verdict
from pipeline.version import __version__

OUR_PACKAGES = ("gait", "pipeline", "trackers")

REQUIRED = {
    "torch": "torch",
    "numpy": "numpy",
    "scipy": "scipy",
    "cv2": "opencv-python-headless",
    "av": "av",
    "onnx": "onnx",
    "onnxscript": "onnxscript",
    "onnxruntime": "onnxruntime",
    "sqlalchemy": "sqlalchemy",
    "pydantic": "pydantic",
    "zmq": "pyzmq",
}
OPTIONAL = {
    "ultralytics": ("ultralytics-opencv-headless", "other YOLO detectors: pip install '.[yolo]'"),
    "segment_anything": ("segment-anything", "the `sam` segmenter: see docs/install.md"),
    "deep_sort_realtime": ("deep-sort-realtime", "the `deepsort` tracker: see docs/install.md"),
}


def examine(out: Path = Path()) -> Iterator[Finding]:
    """Look at the machine, packages, runtimes, bundled models and the folder for results.

    Args:
        out: The folder results would go to.
    """
    yield Finding("trackletgait", "ok", f"{__version__}, Python {platform.python_version()}")
    yield Finding("machine", "ok", f"{platform.platform()}, {os.cpu_count()} cores")
    yield from _packages()
    yield _gpu()
    yield from doctor_runtimes.runtimes()
    yield _decoders()
    yield from _models()
    yield from doctor_runtimes.cache()
    yield from name_clashes()
    yield from _folders(out)


def _packages() -> Iterator[Finding]:
    for module, distribution in REQUIRED.items():
        yield _package(module, distribution, "problem", f"pip install {distribution}")
    for module, (distribution, use) in OPTIONAL.items():
        yield _package(module, distribution, "absent", use)


def _package(module: str, distribution: str, lacking: Verdict, cure: str) -> Finding:
    try:
        version = importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        try:  # another distribution of the same module, such as the GUI build of OpenCV
            found = importlib.import_module(module)
            version = str(getattr(found, "__version__", "unknown version"))
        except ImportError as error:
            return Finding(module, lacking, f"not installed ({error}); {cure}")
    return Finding(module, "ok", version)


def _gpu() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding("GPU", "absent", "none that torch can use: everything runs on the CPU")
    names = []
    for index in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(index)
        names.append(f"cuda:{index} {torch.cuda.get_device_name(index)} (SM {major}.{minor})")
    return Finding("GPU", "ok", f"{', '.join(names)}, CUDA {torch.version.cuda}")


def _decoders() -> Finding:
    import av

    wanted = ("h264", "hevc", "mjpeg", "mpeg4", "vp9", "av1")
    found = [name for name in wanted if name in av.codecs_available]
    missing = sorted(set(wanted) - set(found))
    if missing:
        return Finding("decoders", "problem", f"missing {', '.join(missing)}: reinstall av")
    return Finding("decoders", "ok", ", ".join(found))


def _models() -> Iterator[Finding]:
    from pipeline.errors import ModelError
    from pipeline.weights import BUNDLED, resolve

    for name in BUNDLED:
        try:
            path = resolve(name)
        except ModelError as error:
            yield Finding(f"model {name}", "problem", str(error))
        else:
            yield Finding(f"model {name}", "ok", f"{path.stat().st_size / 1e6:.1f} MB, intact")
    yield _default_encoder()


def _default_encoder() -> Finding:
    """Say which network recognises people when nothing is configured."""
    from gait.errors import CheckpointError
    from pipeline.errors import ModelError
    from pipeline.stages.encode import RANDOM, read_card
    from pipeline.weights import DEFAULT_ENCODER, encoder_file

    if DEFAULT_ENCODER == RANDOM:
        return Finding("encoder", "absent", "no trained weights: give encoder.weights")
    try:
        card = read_card(DEFAULT_ENCODER)
    except (CheckpointError, ModelError) as error:
        return Finding("encoder", "problem", str(error))
    if card is None or card.threshold is None:
        return Finding("encoder", "problem", f"{DEFAULT_ENCODER} has no card with a threshold")
    return Finding(
        "encoder",
        "ok",
        f"{DEFAULT_ENCODER} (sha256 {card.sha256[:12]}), threshold {card.threshold:g}, card "
        f"{encoder_file(DEFAULT_ENCODER).with_suffix('.md')}",
    )


def name_clashes() -> Iterator[Finding]:
    """Find other distributions that brought a package of one of our names.

    PyPI has packages called `gait`, `pipeline` and `trackers`; installed beside ours, whichever
    came last has silently overwritten the other's files.
    """
    owners = importlib.metadata.packages_distributions()
    for name in OUR_PACKAGES:
        others = sorted({d for d in owners.get(name, []) if d.lower() != "trackletgait"})
        if others:
            yield Finding(
                f"name {name}",
                "problem",
                f"{', '.join(others)} also installs a package called {name}: "
                f"pip uninstall {' '.join(others)}, then reinstall trackletgait",
            )
        else:
            yield Finding(f"name {name}", "ok", "ours alone")


def _folders(out: Path) -> Iterator[Finding]:
    for subject, folder in (
        ("results folder", out),
        ("temporary folder", Path(tempfile.gettempdir())),
    ):
        try:
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.write(b"trackletgait")
            free_gb = shutil.disk_usage(folder).free / 1e9
            yield Finding(subject, "ok", f"{folder.resolve()} is writable, {free_gb:.1f} GB free")
        except OSError as error:
            yield Finding(subject, "problem", f"{folder}: {error.strerror}; choose another folder")
