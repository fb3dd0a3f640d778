"""A planned data set on disk: OpenGait's layout or one packed file, partitions and `recipe.json`.

    OUT/recipe.json              how it was made; `digest` is null until it is complete
    OUT/partition*.json          who trains, who tests, which walks are probes
    OUT/subject/condition/view/view.pkl, or OUT/NAME.gaitpack

A folder of pickles that was interrupted is gone on with by the same call: what is there is kept. A
pack is there whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gait.data.atomic import PARTIAL_SUFFIX, write_atomically
from gait.data.dataset import SequenceKey
from gait.data.pack import PACK_SUFFIX, write_pack_of
from gait.data.parallel import map_in_processes
from gait.data.pickles import read_silhouettes, write_silhouettes
from gait.errors import DataError
from gait.synthetic.filming import film
from gait.synthetic.noise import SegmentationNoise
from gait.synthetic.plan import Plan, Subject
from gait.synthetic.recipes import LabRecipe, WildRecipe

RECIPE_NAME = "recipe.json"
FORMAT = 1
"""Raised whenever the same recipe gives other pixels."""

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Silhouettes = NDArray[np.uint8]
OnSequence = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Made:
    """What was written.

    Attributes:
        data: Root of the data set, or its packed file.
        partitions: The partition files.
        num_people: Subjects.
        num_sequences: Sequences.
        num_silhouettes: Frames of all of them.
        digest: SHA-256 over the keys and pixels of all sequences: equal for equal data.
    """

    data: Path
    partitions: tuple[Path, ...]
    num_people: int
    num_sequences: int
    num_silhouettes: int
    digest: str


def make(
    recipe: LabRecipe | WildRecipe,
    out: Path,
    *,
    num_workers: int = 1,
    is_packed: bool = False,
    device: str = "cpu",
    on_silhouettes: OnSequence | None = None,
) -> Made:
    """Make a data set and write it.

    Args:
        recipe: What to make.
        out: Folder; empty, missing, or one in which the same recipe was interrupted.
        num_workers: Processes; the pixels do not depend on it.
        is_packed: Write one packed file instead of a pickle a sequence.
        device: Where masks are rendered; other devices give the same pixels.
        on_silhouettes: Called with the number of silhouettes after each sequence.

    Raises:
        DataError: `out` holds something else or cannot be written, what was complete has changed,
            the disk is full, the baked bodies cannot be read, or a worker died.
    """
    plan = recipe.plan()
    record = {
        "format": FORMAT,
        "packed": is_packed,
        "recipe": recipe.model_dump(mode="json"),
        "versions": {"numpy": np.__version__},
    }
    before = _begin(out, record)
    tally = _Tally(on_silhouettes or (lambda _: None))
    if is_packed:
        data = out / f"{recipe.kind}{PACK_SUFFIX}"
        for killed in out.glob(f".{data.name}.*{PARTIAL_SUFFIX}"):
            killed.unlink(missing_ok=True)  # a killed run could not: some hundred megabytes
        frames = _filmed(plan, list(plan.subjects), num_workers, device)
        write_pack_of(plan.keys, tally.watched(plan.keys, frames), data)
    else:
        data = out
        _write_folder(plan, out, num_workers, device, tally)
    digest = tally.digest.hexdigest()
    if before not in (None, digest):
        raise DataError(
            f"{out}: expected the sequences its {RECIPE_NAME} tells of (digest {before}), got "
            f"others ({digest}): files were changed since; remove the folder and make it anew"
        )
    partitions = tuple(_write_json(out / name, each) for name, each in plan.partitions.items())
    made = Made(
        data,
        partitions,
        len(plan.subjects),
        len(plan.keys),
        tally.num_silhouettes,
        digest,
    )
    counts = {
        "people": made.num_people,
        "sequences": made.num_sequences,
        "silhouettes": made.num_silhouettes,
    }
    _write_json(out / RECIPE_NAME, {**record, **counts, "digest": made.digest})
    return made


class _Tally:
    """Counts and digests sequences as they pass, in the order of the plan."""

    def __init__(self, on_silhouettes: OnSequence) -> None:
        self.num_silhouettes = 0
        self.digest = hashlib.sha256()
        self._on_silhouettes = on_silhouettes

    def add(self, key: SequenceKey, silhouettes: Silhouettes) -> None:
        self.num_silhouettes += len(silhouettes)
        self.digest.update(f"{key} {silhouettes.shape}\n".encode())
        self.digest.update(np.ascontiguousarray(silhouettes).data)
        self._on_silhouettes(len(silhouettes))

    def watched(
        self, keys: Sequence[SequenceKey], frames: Iterator[Silhouettes]
    ) -> Iterator[Silhouettes]:
        for key, silhouettes in zip(keys, frames, strict=True):
            self.add(key, silhouettes)
            yield silhouettes


def _film(subject: Subject, *, seed: int, device: str) -> list[Silhouettes]:
    return film(seed, subject, _noise(), device)


@cache
def _noise() -> SegmentationNoise:
    return SegmentationNoise.learnt()


def _filmed(
    plan: Plan, subjects: list[Subject], num_workers: int, device: str
) -> Iterator[Silhouettes]:
    film_one = partial(_film, seed=plan.seed, device=device)
    with _one_thread_a_process():
        yield from chain.from_iterable(map_in_processes(film_one, subjects, num_workers))


@contextmanager
def _one_thread_a_process() -> Iterator[None]:
    """Keep processes that are started meanwhile from fighting over the cores with their threads."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _write_folder(plan: Plan, out: Path, num_workers: int, device: str, tally: _Tally) -> None:
    """Write what is missing, and digest all of it in the order of the plan."""
    files = {key: _file(out, key) for key in plan.keys}
    missing = [
        subject
        for subject in plan.subjects
        if not all(files[key].is_file() for key in subject.keys)
    ]
    films = _filmed(plan, missing, num_workers, device)
    to_film = {subject.name for subject in missing}
    for subject in plan.subjects:
        for key in subject.keys:
            if subject.name in to_film:
                silhouettes = next(films)
                write_silhouettes(files[key], silhouettes)
            else:
                silhouettes = read_silhouettes(files[key])
            tally.add(key, silhouettes)


def _file(out: Path, key: SequenceKey) -> Path:
    return out / key.subject / key.condition / key.view / f"{key.view}.pkl"


def _begin(out: Path, record: dict[str, Any]) -> str | None:
    """Note what is going to be made, or find that just this was begun.

    Returns:
        The digest of a complete data set, else None.

    Raises:
        DataError: The folder holds something else or cannot be written.
    """
    path = out / RECIPE_NAME
    if path.is_file():
        found = None
        with suppress(OSError, ValueError):
            found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or any(found.get(key) != record[key] for key in record):
            raise DataError(
                f"{out}: expected an empty folder or the same recipe, got another one's data "
                f"({path.name} differs); choose another folder or remove it"
            )
        return found.get("digest")
    try:
        is_free = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    except OSError as error:
        raise DataError(f"{out}: cannot read the folder ({error.strerror or error})") from error
    if not is_free:
        raise DataError(
            f"{out}: expected a new or an empty folder, got one with other things in it; choose "
            "another folder"
        )
    _write_json(path, {**record, "digest": None})
    return None


def _write_json(path: Path, content: object) -> Path:
    write_atomically(path, json.dumps(content, indent=1).encode() + b"\n")
    return path
