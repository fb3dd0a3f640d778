"""From what a person typed to sources: files, folders and globs, names, the sample clip."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from pipeline.errors import SourceError
from pipeline.sources.images import (
    IMAGE_SUFFIXES,
    ImageFolderSource,
    image_files,
    listed,
    natural_key,
)
from pipeline.sources.source import ReadConfig, Source
from pipeline.sources.video import VideoSource

# What a folder is searched for; a file typed by name may be called anything.
_VIDEO_ENDINGS = (
    "3gp asf avi dav flv h264 h265 hevc m2ts m4v mjpeg mjpg mkv mov mp4 mpeg mpg mts mxf ogv ts "
    "vob webm wmv"
)
VIDEO_SUFFIXES = frozenset(f".{ending}" for ending in _VIDEO_ENDINGS.split())
_MAX_NAME = 60


def expand(inputs: Sequence[str | Path]) -> tuple[list[Path], list[SourceError]]:
    """Return the streams that inputs stand for, and what is wrong with the others.

    A file is a stream. A folder stands for its videos or, if it has none, is itself one stream of
    images; folders inside it are not searched. A glob (`*`, `?`, `[...]`, quoted from the shell)
    stands for what it matches, as if typed. A path that exists is never taken for a glob.

    Args:
        inputs: Files, folders or globs.

    Returns:
        The paths in the order typed (globs and folders in natural order: 2 before 10), each once,
        and one error for every input that stands for nothing.
    """
    paths: dict[Path, Path] = {}
    problems: list[SourceError] = []
    for text in inputs:
        try:
            for path in _expand_one(str(text)):
                paths.setdefault(path.resolve(), path)
        except SourceError as problem:
            problems.append(problem)
        except OSError as error:
            problems.append(SourceError(f"{text}: cannot be looked at ({error.strerror})"))
    return list(paths.values()), problems


def stream_names(paths: Sequence[Path]) -> list[str]:
    """Return a short name for each path, unique and fit to be a file name.

    The stem where that is enough; else with the suffix (`cam-avi`) or the folders (`north-cam`)
    that tell the paths apart; else a number. Upper and lower case count as the same.
    """
    stems = [_NAMINGS[0](path) for path in paths]
    groups: dict[str, list[int]] = {}
    for i, stem in enumerate(stems):
        groups.setdefault(stem.casefold(), []).append(i)
    names = stems.copy()
    for group in groups.values():
        namings = (name for name in _NAMINGS if _all_differ([name(paths[i]) for i in group]))
        naming = next(namings, _NAMINGS[0])
        for i in group:
            names[i] = naming(paths[i])
    return _numbered(names)


def open_source(path: Path, name: str, read: ReadConfig) -> Source:
    """Open a video file or a folder of images.

    Raises:
        SourceError: If it cannot be read, or holds nothing that decodes.
    """
    if path.is_dir():
        return ImageFolderSource(path, name, read)
    return VideoSource(path, name, read)


def sample_path() -> Path:
    """Return the clip that ships with the package: 20 s of pedestrians, 768x576, 10 fps."""
    return Path(str(files("pipeline").joinpath("samples", "vtest-20s.mp4")))


def walker_samples() -> tuple[list[Path], Path]:
    """Return the rendered clips that ship, of the same people on two cameras, and their truth."""
    folder = sample_path().parent
    return [folder / "walkers-a.mp4", folder / "walkers-b.mp4"], folder / "walkers.json"


def _expand_one(text: str) -> list[Path]:
    path = Path(text)
    if "://" in text:
        raise SourceError(
            f"{_without_credentials(text)}: expected a file, a folder or a glob, got a URL; "
            f"for cameras there is `trackletgait run`"
        )
    if path.is_dir():
        return _expand_folder(path)
    if path.exists():
        return [_not_an_image(path)]
    if glob.has_magic(text):
        return _expand_glob(text)
    raise SourceError(f"{path}: no such file or folder{did_you_mean(path)}")


def _expand_folder(folder: Path) -> list[Path]:
    videos = listed(folder, VIDEO_SUFFIXES)
    if videos:
        return videos
    if image_files(folder):
        return [folder]
    inside = any(entry.is_dir() for entry in folder.iterdir())
    hint = f"; for the folders in it, give '{folder}/*'" if inside else ""
    raise SourceError(f"{folder}: no videos or images in this folder{hint}")


def _expand_glob(pattern: str) -> list[Path]:
    matches = sorted((Path(match) for match in glob.glob(pattern)), key=natural_key)
    if not matches:
        raise SourceError(f"{pattern}: nothing matches{did_you_mean(Path(pattern))}")
    folders = {match.parent for match in matches if match.suffix.lower() in IMAGE_SUFFIXES}
    if folders:
        named = ", ".join(str(folder) for folder in sorted(folders))
        raise SourceError(f"{pattern}: matches single images; give their folder instead: {named}")
    return [
        path for match in matches for path in (_expand_folder(match) if match.is_dir() else [match])
    ]


def _not_an_image(path: Path) -> Path:
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise SourceError(f"{path}: a single image; give its folder instead: {path.parent}")
    return path


def did_you_mean(path: Path) -> str:
    """Return the names nearest to one that is not there, as a hint in brackets; "" without any."""
    folder = next(parent for parent in path.parents if parent.is_dir() or parent == parent.parent)
    if folder != path.parent:
        return f" (the folder {path.parent} does not exist)"
    names = sorted(entry.name for entry in folder.iterdir())
    close = get_close_matches(path.name, names, n=3, cutoff=0.6)
    return f" (did you mean {' or '.join(str(folder / name) for name in close)}?)" if close else ""


def _without_credentials(url: str) -> str:
    scheme, rest = url.split("://", 1)
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


def _safe(*pieces: str) -> str:
    name = re.sub(r"[^\w.-]+", "_", "-".join(pieces)).strip("._-")
    return name[-_MAX_NAME:].strip("._-") or "stream"


def _named(num_folders: int, with_suffix: bool) -> Callable[[Path], str]:
    def name(path: Path) -> str:
        path = path.absolute()
        stem = path.name if path.is_dir() else path.stem
        suffix = [path.suffix[1:]] if with_suffix and path.suffix else []
        folders = path.parent.parts[1:][-num_folders:] if num_folders else ()
        return _safe(*folders, stem, *suffix)

    return name


_NAMINGS = [
    _named(0, False),
    _named(0, True),
    _named(1, False),
    _named(2, False),
    _named(3, False),
    _named(3, True),
]


def _all_differ(names: Sequence[str]) -> bool:
    return len({name.casefold() for name in names}) == len(names)


def _numbered(names: Sequence[str]) -> list[str]:
    taken: set[str] = set()
    unique = []
    for name in names:
        number, tried = 1, name
        while tried.casefold() in taken:
            number += 1
            tried = f"{name}-{number}"
        taken.add(tried.casefold())
        unique.append(tried)
    return unique
