"""Files that hold the weights of a network: the authors' `.pt` and our own `.safetensors`.

The authors' files are `torch.save` dictionaries (spec d). They are read with `weights_only=True`
and nothing else: a file that needs code to be loaded is refused. Ours name the whole network in
their metadata, so that ablations and baselines load too.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import pickle
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from gait.errors import CheckpointError
from gait.model.heads import PartNeck
from gait.model.trackletgait import RELEASED, VARIANTS, TrackletGait, TrackletGaitConfig

FORMAT = "trackletgait-1"

_NECK = "BNNecks."
_LOSSES = "loss_aggregator."
_WRAPPER = "module."
_NUM_NAMED = 8
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64)

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A network with the weights of a file.

    Attributes:
        model: In eval mode, on the CPU, in the file's precision but at least float32. It has
            `BNNecks` only if the file's were usable.
        class_num: Training classes of those BNNecks; None without them.
        path: The file.
        sha256: Of the file's bytes, as a model card states it.
    """

    model: TrackletGait
    class_num: int | None
    path: Path
    sha256: str

    @property
    def variant(self) -> str:
        """Name of the network: of `VARIANTS`, or of an ablation or baseline."""
        return self.model.config.name


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Return the network that a weights file belongs to, ready for inference.

    The format is told from the content, the network from our metadata or else from the keys, the
    class count from `BNNecks.fc_bin`. BNNecks may be missing or of other sizes: inference does not
    read them. Everything else must be there, in the right shape and finite.

    Raises:
        CheckpointError: The file is missing, damaged, holds code, or is of another network.
    """
    path = Path(path)
    sha256 = sha256_of(path)
    content, described = _read(path)
    weights = _clean(content, path)
    config = _described(described, path) if described else _recognise(weights, path)
    class_num = _usable_class_num(weights, config)
    if class_num is None:
        weights = {key: value for key, value in weights.items() if not key.startswith(_NECK)}
    with torch.device("meta"):
        model = TrackletGait(config, class_num)
    _check_fit(weights, model.state_dict(), config, path)
    _check_values(weights, path)
    model.load_state_dict(weights, strict=True, assign=True)
    return Checkpoint(model.eval(), class_num, path, sha256)


def save_checkpoint(model: TrackletGait, path: str | Path) -> None:
    """Write a network to a `.safetensors` file, whole or not at all.

    The file's metadata names the format, network, class count and the versions that wrote it.

    Raises:
        CheckpointError: The file cannot be written.
    """
    class_num = model.BNNecks.fc_bin.shape[2] if model.BNNecks else 0
    _write(model.state_dict(), model.config, class_num, Path(path))


def save_weights(model: TrackletGait, path: str | Path, *, half: bool) -> None:
    """Write what inference reads of a network, without BNNecks; the same bytes every time.

    Args:
        model: The network.
        path: A `.safetensors` file.
        half: Store convolutions and linear maps in float16, half as large; batch norms and biases
            stay float32, for variances may lie beyond float16. Loading makes all of it float32.

    Raises:
        CheckpointError: The file cannot be written, or a weight is too large for float16.
    """
    path = Path(path)
    weights = {k: v for k, v in model.state_dict().items() if not k.startswith(_NECK)}
    if half:
        weights = {k: v.half() if v.ndim > 1 else v for k, v in weights.items()}
    _check_values(weights, path)
    _write(weights, model.config, 0, path)


def _write(weights: Weights, config: TrackletGaitConfig, class_num: int, path: Path) -> None:
    from safetensors.torch import save

    metadata = {
        "format": FORMAT,
        "variant": config.name,
        "network": config.model_dump_json(),
        "class_num": str(class_num),
        "trackletgait": importlib.metadata.version("trackletgait"),
        "torch": torch.__version__,
    }
    on_host = {key: value.cpu().contiguous() for key, value in weights.items()}
    with _whole_or_nothing(path) as partial:
        partial.write_bytes(_in_order(save(on_host, metadata)))


def _in_order(file: bytes) -> bytes:
    """Return a safetensors file with its header's keys sorted; the library leaves it to chance."""
    size = int.from_bytes(file[:8], "little")
    header = json.dumps(json.loads(file[8 : 8 + size]), sort_keys=True).encode()
    header += b" " * (-len(header) % 8)  # the format aligns the tensors
    return len(header).to_bytes(8, "little") + header + file[8 + size :]


def export_authors(
    model: TrackletGait, path: str | Path, *, iteration: int, training: Mapping[str, Any]
) -> None:
    """Write a network as the authors' training loop does, for users of OpenGait.

    Args:
        model: A network whose keys are those of a released one: "standard" or "small".
        path: Customarily `<name>-<iteration, at least five digits>.pt`.
        iteration: Training iterations behind the weights.
        training: State dicts of torch's SGD and MultiStepLR under `optimizer` and `scheduler`;
            empty for weights alone.

    Raises:
        CheckpointError: The network has no released counterpart, or the file cannot be written.
    """
    path = Path(path)
    _check_exportable(model, path)
    weights = OrderedDict(
        (key, value.detach().cpu().contiguous()) for key, value in model.state_dict().items()
    )
    content = {"model": weights, **training, "iteration": int(iteration)}
    with _whole_or_nothing(path) as partial, partial.open("wb") as file:
        torch.save(content, file)


def _check_exportable(model: TrackletGait, path: Path) -> None:
    if model.BNNecks is None:
        raise CheckpointError(
            f"{path}: expected a network with BNNecks, which the authors' strict loading demands; "
            "export a checkpoint of a training run"
        )
    for config in RELEASED.values():
        if model.config == config.model_copy(update={"name": model.config.name}):
            return
    raise CheckpointError(
        f"{path}: expected one of the authors' networks ({' or '.join(RELEASED)}), got "
        f"{model.config.name!r}, which their program cannot build; keep the .safetensors file"
    )


@contextlib.contextmanager
def _whole_or_nothing(path: Path) -> Iterator[Path]:
    """Give a neighbour to write to, which becomes `path` at the end, or goes.

    Raises:
        CheckpointError: The system refuses to write.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch.save wraps a full disk in a RuntimeError
        reason = getattr(error, "strerror", None) or _first_line(error)
        raise CheckpointError(
            f"{path}: cannot write the weights ({reason}); choose a folder that exists, "
            "is writable and has room"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        CheckpointError: The file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(
            f"{path}: expected a weights file (.pt or .safetensors), cannot read it "
            f"({error.strerror}); check the path"
        ) from error


def model_hash(model: TrackletGait) -> str:
    """Return a SHA-256 over what inference computes with: names, shapes and float32 weights.

    It is the same for a `.pt` and a `.safetensors` of one network, with or without BNNecks, on
    any device; embeddings may be compared only if it agrees.
    """
    config = model.config
    is_known = config == VARIANTS.get(config.name)
    digest = hashlib.sha256((config.name if is_known else config.model_dump_json()).encode())
    for key, value in sorted(model.state_dict().items()):
        if not key.startswith(_NECK) and value.is_floating_point():
            digest.update(f"{key}{tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path) -> tuple[object, str | None]:
    """Return whatever object the file holds and our description of the network, if it has one.

    The first bytes tell the format.
    """
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:9] == b"{":  # first: a header's length before it may begin with any byte
        return _read_safetensors(path)
    if start.startswith((b"PK\x03\x04", b"\x80")):
        return _read_torch(path), None
    raise CheckpointError(
        f"{path}: expected a weights file of PyTorch (.pt) or safetensors, got "
        f"{'an empty file' if not start else f'one that begins with {start!r}'}; "
        "download it again, or check that it is the file you mean"
    )


def _read_torch(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: expected tensors and plain values only, got a file that is damaged or asks "
            "to run code when loaded; it was refused and nothing was run. Use weights from a "
            f"source you trust, saved as a state dict ({_first_line(error)})"
        ) from error
    except Exception as error:  # torch raises a dozen types for damaged files
        raise CheckpointError(
            f"{path}: expected a complete PyTorch file, got a truncated or damaged one; "
            f"download it again ({_first_line(error)})"
        ) from error


def _read_safetensors(path: Path) -> tuple[object, str | None]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            return {key: file.get_tensor(key) for key in file.keys()}, metadata.get("network")  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(
            f"{path}: expected a complete safetensors file, got a truncated or damaged one; "
            f"download it again ({_first_line(error)})"
        ) from error


def _described(network: str, path: Path) -> TrackletGaitConfig:
    try:
        return TrackletGaitConfig.model_validate_json(network)
    except ValidationError as error:
        problem = error.errors()[0]
        raise CheckpointError(
            f"{path}: expected the sizes of a network under 'network' in the metadata, got "
            f"{problem['input']!r} at {'.'.join(map(str, problem['loc']))} ({problem['msg']}); the "
            "file was written by another version or changed by hand"
        ) from error


def _clean(content: object, path: Path) -> Weights:
    """Return the state dict of a training checkpoint or bare, without wrappers and losses."""
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        content = content["model"]
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(
            f"{path}: expected a state dict or a dictionary with 'model', "
            f"got {_describe(content)}; save it with torch.save({{'model': net.state_dict()}}, ...)"
        )
    for key, value in content.items():
        if not isinstance(key, str) or not _is_plain(value):
            raise CheckpointError(
                f"{path}: expected only names with tensors in the state dict, "
                f"got {key!r}: {_describe(value)}; is this the checkpoint of another program?"
            )
    named = {key.removeprefix(_WRAPPER): value for key, value in content.items()}
    return {
        key: value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
        for key, value in named.items()
        if not key.startswith(_LOSSES)
    }


def _recognise(weights: Weights, path: Path) -> TrackletGaitConfig:
    """Return the configuration whose units the keys name; the deepest unit decides."""
    present = {key.partition(".")[0] for key in weights}
    for config in RELEASED.values():
        if config.units[-1].name in present and "pooling1" in present:
            return config
    raise CheckpointError(
        f"{path}: expected a TrackletGait ({' or '.join(RELEASED)}; keys such as "
        f"layer2.0.conv1.weight and FCs.fc_bin), got another network ({_name_some(weights)})"
    )


def _usable_class_num(weights: Weights, config: TrackletGaitConfig) -> int | None:
    """Return the class count of the file's BNNecks, or None if there are none or they misfit."""
    classes = weights.get(f"{_NECK}fc_bin")
    if classes is None or classes.ndim != 3:
        return None
    with torch.device("meta"):
        neck = PartNeck(config.num_parts, config.embedding_channels, classes.shape[2])
    wanted = {f"{_NECK}{key}": value.shape for key, value in neck.state_dict().items()}
    found = {key: value.shape for key, value in weights.items() if key.startswith(_NECK)}
    return int(classes.shape[2]) if wanted == found else None


def _check_fit(
    weights: Weights, wanted: Mapping[str, torch.Tensor], config: TrackletGaitConfig, path: Path
) -> None:
    reshaped = [
        f"{key} {tuple(weights[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in weights and weights[key].shape != wanted[key].shape
    ]
    problems = {
        "missing": [key for key in wanted if key not in weights],
        "unexpected": [key for key in weights if key not in wanted],
        "of another shape": reshaped,
        "of another type": [
            f"{key} {value.dtype}"
            for key, value in weights.items()
            if key in wanted and value.is_floating_point() != wanted[key].is_floating_point()
        ],
    }
    found = [f"{what}: {_name_some(keys)}" for what, keys in problems.items() if keys]
    if found:
        raise CheckpointError(
            f"{path}: expected the {len(wanted)} weights of TrackletGait {config.name}, got "
            f"{'; '.join(found)}. Use the checkpoint of an unmodified TrackletGait"
        )


def _check_values(weights: Weights, path: Path) -> None:
    bad = [
        key
        for key, value in weights.items()
        if not value.isfinite().all() or (key.endswith("running_var") and (value < 0).any())
    ]
    if bad:
        raise CheckpointError(
            f"{path}: expected finite weights and variances of at least 0, got NaN, infinite or "
            f"negative ones in {_name_some(bad)}; the training diverged or the file is damaged: "
            "use an earlier checkpoint"
        )


def _is_plain(value: object) -> bool:
    """Whether a value is an ordinary real tensor: dense, on the CPU, not quantised."""
    return (
        isinstance(value, torch.Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and value.dtype in _DTYPES
    )


def _describe(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor of {value.dtype} and {value.layout}"
    if isinstance(value, Mapping):
        return f"a dictionary of {_name_some(value)}" if value else "an empty dictionary"
    return f"a {type(value).__name__}"


def _name_some(names: Any) -> str:
    listed = [str(name) for name in names]
    more = len(listed) - _NUM_NAMED
    return ", ".join(listed[:_NUM_NAMED]) + (f" and {more} more" if more > 0 else "")


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
