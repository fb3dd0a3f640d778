"""What a folder of results holds about people: of `trackletgait process` and of a live run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PrivacyError
from pipeline.privacy.receipt import DataKind, Removed, digest_of, spanning
from pipeline.sinks.folder import MARKER, ResultsFolder

# A file goes as soon as one of the kinds that it holds is too old.
_FILES: dict[str, tuple[DataKind, ...]] = {
    "streams/*/annotated.mp4": ("video",),
    "recordings/**/*.mp4": ("video",),
    "streams/*/tracklets/track-*.npz": ("silhouettes", "embeddings"),
    "streams/*/tracklets/track-*.png": ("silhouettes",),
    "streams/*/masks.jsonl": ("silhouettes",),
    "streams/*/tracks.mot.txt": ("sightings",),
    "checked.json": ("sightings",),
    "report.html": ("silhouettes", "sightings"),
}


@dataclass(frozen=True, slots=True)
class DataFolder:
    """A folder of ours.

    Attributes:
        path: The folder.
    """

    path: Path

    @classmethod
    def at(cls, path: Path) -> DataFolder:
        """Return the folder.

        Raises:
            PrivacyError: It is none of ours.
        """
        if not (path / MARKER).is_file():
            raise PrivacyError(
                f"{path}: expected a results folder of trackletgait, found no {MARKER} in it; "
                "nothing was touched"
            )
        return cls(path)

    def files(self) -> Iterator[tuple[Path, tuple[DataKind, ...]]]:
        """Yield each file about people that is kept or removed as a whole, and what it holds."""
        for pattern, kinds in _FILES.items():
            for path in sorted(self.path.glob(pattern)):
                if path.is_file() and not path.is_symlink():
                    yield path, kinds

    @property
    def sightings(self) -> Path:
        """The file of sightings; full ones are beside it."""
        return ResultsFolder(self.path).sightings


def remove_files(
    kind: DataKind, where: Path, paths: Sequence[Path], *, is_dry_run: bool = False
) -> Removed | None:
    """Remove files; return what went, None when there were none.

    Raises:
        PrivacyError: A file cannot be removed; those before are.
    """
    digests, moments = [], []
    for path in paths:
        try:
            moments.append(path.stat().st_mtime)
            with path.open("rb") as file:
                # Reading a video takes long, and a look at what would go needs no digest of it.
                digests.append(b"" if is_dry_run else hashlib.file_digest(file, "sha256").digest())
            if not is_dry_run:
                path.unlink()
        except FileNotFoundError:  # somebody else removed it
            continue
        except OSError as error:
            raise PrivacyError(f"{path}: cannot be removed: {error.strerror}") from error
    if not digests:
        return None
    return Removed(
        kind=kind,
        where=str(where),
        count=len(digests),
        digest=digest_of(digests),
        **spanning(moments),
    )
