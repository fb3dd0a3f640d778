"""The models that come with the package, and where a model's name leads to."""

from __future__ import annotations

import difflib
import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ModelError

MODELS_FOLDER = Path(__file__).parent / "models"


@dataclass(frozen=True, slots=True)
class BundledModel:
    """A model file in `pipeline/models`; NOTICE.md there, or a card beside it, says what it is.

    Attributes:
        file: Name in the folder.
        sha256: What the file's bytes must hash to, in hexadecimal.
    """

    file: str
    sha256: str


BUNDLED: dict[str, BundledModel] = {
    "ssdlite-coco-300": BundledModel(
        "ssdlite-coco-300.onnx",
        "c1313cb77558cbdceb675d42f6870c434c8955c0ab2232e383d1d25c8098a340",
    ),
    "pose-landmark-full": BundledModel(
        "pose_landmark_full.onnx",
        "9deb5f39d599d65a7fc93cb431f79ba83dff26281882ee260d03ddc421231573",
    ),
    "trackletgait-nano": BundledModel(
        "trackletgait-nano.safetensors",
        "566b5d2948ce48c838732e1397e9cd88c0a038c4a122ca075906652413024917",
    ),
    "calibration-nano": BundledModel(
        "trackletgait-nano.calibration.json",
        "e6f4a584fa5288a23b031ded2d489c24e692c27febdd4d56429638e7cea2b7ae",
    ),
}


ENCODERS = tuple(name for name in BUNDLED if name.startswith("trackletgait-"))
"""Those that turn walks into embeddings; each has a model card, .md and .json, beside it."""

CALIBRATIONS = tuple(name for name in BUNDLED if name.startswith("calibration-"))
"""What the distances of those encoders mean (`pipeline.gallery.calibration`)."""

DEFAULT_ENCODER = "trackletgait-nano" if "trackletgait-nano" in BUNDLED else "random"


def encoder_file(weights: str) -> Path:
    """Return the file of an encoder given by bundled name or by path, which need not exist.

    Raises:
        ModelError: A bundled file is missing or damaged, or its name is mistyped.
    """
    if weights in ENCODERS:
        return _intact(weights)
    path = Path(weights).expanduser()
    near = difflib.get_close_matches(weights, ENCODERS, n=1)
    if near and not path.exists():
        raise ModelError(f"weights {weights!r}: no such file (did you mean {near[0]}?)")
    return path


def resolve(model: str) -> Path:
    """Return the file of a model given by bundled name or by path.

    Args:
        model: A name in `BUNDLED`, or the path of a file.

    Raises:
        ModelError: There is no such model, or a bundled file is damaged.
    """
    if model in BUNDLED:
        return _intact(model)
    path = Path(model).expanduser()
    if path.is_file():
        return path
    near = difflib.get_close_matches(model, BUNDLED, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    found = "a folder" if path.is_dir() else "no such file, and nothing is downloaded"
    graphs = [name for name in BUNDLED if name not in (*ENCODERS, *CALIBRATIONS)]
    raise ModelError(
        f"model {model!r}: expected the path of a model file or one of {', '.join(graphs)}; "
        f"got {found}{hint}"
    )


def sha256_of(path: Path) -> str:
    """Return the hash of a file's bytes, in hexadecimal.

    Raises:
        ModelError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"model {path}: cannot be read ({error.strerror})") from error


@functools.cache  # once per process: hashing 18 MB on every build would be felt in tests
def _intact(name: str) -> Path:
    bundled = BUNDLED[name]
    path = MODELS_FOLDER / bundled.file
    if not path.is_file():
        raise ModelError(f"model {name}: {path} is missing; reinstall trackletgait")
    found = sha256_of(path)
    if found != bundled.sha256:
        raise ModelError(
            f"model {name}: {path} is damaged: expected sha256 {bundled.sha256[:12]}..., "
            f"got {found[:12]}...; reinstall trackletgait"
        )
    return path
