"""Embeddings of a test set on disk: made once, resumable, memory-mapped when read."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from gait.data.atomic import write_atomically
from gait.data.dataset import FolderDataset, GaitDataset, SequenceKey
from gait.errors import DataError
from gait.evaluation.ranking import Floats

logger = logging.getLogger(__name__)

_ABOUT = "features.json"
_EMBEDDINGS = "embeddings.npy"
_DONE = "done.npy"
_SAVED_EVERY = 64


class Embedder(Protocol):
    """Turns sequences into embeddings; `gait.encoder.Encoder` is one."""

    model_hash: str

    def embed(self, sequences: Sequence[NDArray[np.uint8]]) -> Sequence[Floats]:
        """Return one (C, P) a sequence."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """The embeddings of a test set.

    Attributes:
        embeddings: Shape (N, C, P), float32, or what the file holds; mapped if it comes from a
            folder.
        keys: Which sequence each is, in the order of the data set.
        model_hash: Of the network that made them; empty when the file does not say.
    """

    embeddings: Floats
    keys: Sequence[SequenceKey]
    model_hash: str = ""


def embed_dataset(
    dataset: GaitDataset,
    source: Path,
    embedder: Embedder,
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Features:
    """Return the embeddings of every sequence, one a forward pass (spec c.2), kept in `folder`.

    A folder begun by the same network with the same data is gone on with: what is in it is not
    made again. Any other is started anew.

    Args:
        dataset: The sequences, in the order of the protocol.
        source: Where they lie; a change of a file's size or time there starts anew.
        embedder: Makes the embeddings.
        folder: Receives the embeddings; made if need be.
        progress: Told how many are done, of how many.

    Raises:
        DataError: A sequence cannot be read, there is none, or the folder cannot be written.
    """
    if not len(dataset):
        raise DataError(f"{source}: expected sequences to evaluate, got none; check the partition")
    about = {
        "model_hash": embedder.model_hash,
        "data": _fingerprint(dataset, source),
        "keys": [[key.subject, key.condition, key.view] for key in dataset.keys],
    }
    try:
        embeddings, done = _open(folder, about, dataset, embedder)
        _fill(embeddings, done, dataset, embedder, progress)
    except OSError as error:
        raise DataError(
            f"{folder}: cannot keep embeddings there ({error.strerror or error}); choose a folder "
            "that is writable and has room"
        ) from error
    return Features(embeddings, list(dataset.keys), embedder.model_hash)


def read_features(path: Path) -> Features:
    """Return stored embeddings: a folder of `embed_dataset`, or an `.npz`.

    An `.npz` holds `embeddings` (N, C, P) and text `subjects`, `conditions`, `views` (N,).

    Raises:
        DataError: It is neither, is damaged or is not complete.
    """
    try:
        features = _read_folder(path) if path.is_dir() else _read_npz(path)
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot read it ({error.strerror or error})") from error
    except Exception as error:  # numpy, zipfile and zlib raise whatever a damaged file provokes
        raise DataError(
            f"{path}: expected stored embeddings, got a damaged file ({error})"
        ) from error
    stored = features.embeddings
    if stored.ndim != 3 or len(stored) != len(features.keys) or stored.dtype.kind != "f":
        raise DataError(
            f"{path}: expected embeddings (N, C, P) in floating point, one for each of "
            f"{len(features.keys)} sequences, got {stored.dtype} of shape {stored.shape}"
        )
    return features


def _fill(
    embeddings: np.memmap[Any, np.dtype[np.float32]],
    done: np.memmap[Any, np.dtype[np.bool_]],
    dataset: GaitDataset,
    embedder: Embedder,
    progress: Callable[[int, int], None],
) -> None:
    """Make what is missing, a few at a time: embeddings reach the disk before their flags."""
    missing = np.flatnonzero(~done).tolist()
    num_done = len(done) - len(missing)
    progress(num_done, len(done))
    for start in range(0, len(missing), _SAVED_EVERY):
        group = missing[start : start + _SAVED_EVERY]
        for index in group:
            embeddings[index] = embedder.embed([dataset[index]])[0]
            num_done += 1
            progress(num_done, len(done))
        embeddings.flush()
        done[group] = True
        done.flush()


def _open(
    folder: Path, about: dict[str, Any], dataset: GaitDataset, embedder: Embedder
) -> tuple[np.memmap[Any, np.dtype[np.float32]], np.memmap[Any, np.dtype[np.bool_]]]:
    """Return the mapped embeddings and flags of a folder, begun anew unless `about` agrees."""
    if not _is_begun(folder, about):
        if folder.is_dir():
            logger.info("%s: damaged, or of other weights or data; starting anew", folder)
            _clear(folder)
        folder.mkdir(parents=True, exist_ok=True)
        first = embedder.embed([dataset[0]])[0]
        shape = (len(dataset), *first.shape)
        # written, not mapped: a full disk shows now, and not as a signal that ends the process
        np.save(folder / _EMBEDDINGS, np.zeros(shape, np.float32))
        np.save(folder / _DONE, np.zeros(len(dataset), np.bool_))
        write_atomically(folder / _ABOUT, json.dumps(about).encode())  # last: now it is usable
    return (
        open_memmap(folder / _EMBEDDINGS, "r+"),
        open_memmap(folder / _DONE, "r+"),
    )


def _is_begun(folder: Path, about: dict[str, Any]) -> bool:
    try:
        # mapped to read: to write, numpy would fill up a file that was cut off
        arrays = [np.load(folder / name, mmap_mode="r") for name in (_EMBEDDINGS, _DONE)]
        agrees = json.loads((folder / _ABOUT).read_text()) == about
        return bool(agrees and all(len(each) == len(about["keys"]) for each in arrays))
    except (OSError, ValueError, EOFError, RecursionError):
        return False


def _clear(folder: Path) -> None:
    """Remove what `_open` makes, and nothing else a person may keep there."""
    for name in (_ABOUT, _EMBEDDINGS, _DONE):  # the description first: without it nothing counts
        (folder / name).unlink(missing_ok=True)


def _fingerprint(dataset: GaitDataset, source: Path) -> str:
    """Return a hash over the files' sizes and times: reading all of them would take an hour."""
    files = dataset.files if isinstance(dataset, FolderDataset) else [source]
    digest = hashlib.sha256()
    for file in files:
        try:
            status = file.stat()
        except OSError as error:
            raise DataError(f"{file}: cannot read it ({error.strerror or error})") from error
        about = f"{file.name} {status.st_size} {status.st_mtime_ns}\n"
        digest.update(about.encode(errors="surrogateescape"))
    return digest.hexdigest()


def _read_folder(folder: Path) -> Features:
    about = json.loads((folder / _ABOUT).read_text())
    done = np.load(folder / _DONE)
    if not done.all():
        raise DataError(
            f"{folder}: expected all {len(done)} sequences, got {int(done.sum())}; run the "
            "evaluation that makes them again: it goes on where it stopped"
        )
    embeddings = np.load(folder / _EMBEDDINGS, mmap_mode="r")
    return Features(embeddings, [SequenceKey(*key) for key in about["keys"]], about["model_hash"])


def _read_npz(path: Path) -> Features:
    with np.load(path, allow_pickle=False) as file:
        names = ("embeddings", "subjects", "conditions", "views")
        if missing := [name for name in names if name not in file.files]:
            raise DataError(
                f"{path}: expected the arrays {', '.join(names)}, got {', '.join(file.files)} "
                f"without {', '.join(missing)}"
            )
        embeddings, subjects, conditions, views = (file[name] for name in names)
    columns = [each.astype(np.str_) for each in (subjects, conditions, views)]
    if {each.shape for each in columns} != {embeddings.shape[:1]}:
        raise DataError(
            f"{path}: expected embeddings (N, C, P) and N subjects, conditions and views, got "
            f"{embeddings.shape} and {', '.join(str(each.shape) for each in columns)}"
        )
    rows = zip(*(each.tolist() for each in columns), strict=True)
    return Features(embeddings, [SequenceKey(*row) for row in rows])
