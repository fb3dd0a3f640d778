"""A folder of images as one stream."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Generator
from functools import partial
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from pipeline.errors import SourceError
from pipeline.sources.pixels import upright_bgr, view_of
from pipeline.sources.source import Picture, ReadConfig, RecordedSource, StreamInfo

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})


class ImageFolderSource(RecordedSource):
    """The images of one folder, in the order a person counts (2 before 10), as one stream.

    An image that cannot be read is left out and counted; its place stays empty, so the others keep
    their index and time. Gray and transparent images become BGR.
    """

    def __init__(self, folder: Path, name: str, read: ReadConfig) -> None:
        """List a folder and look at its first image.

        Args:
            folder: Folder that holds the images itself; folders inside it are not searched.
            name: Name of the stream.
            read: Which images to read, and `image_fps`.

        Raises:
            SourceError: If the folder cannot be listed, or holds no image that can be read.
        """
        self._files = image_files(folder)
        self._reformatter = VideoReformatter()
        if not self._files:
            raise SourceError(f"{folder}: no images in it ({', '.join(sorted(IMAGE_SUFFIXES))})")
        images = (self._load(file) for file in self._files)
        first = next((image for image in images if image is not None), None)
        if first is None:
            raise SourceError(f"{folder}: none of its {len(self._files)} images can be read")
        super().__init__(_described(name, folder, len(self._files), first, read.image_fps), read)

    def _pictures(self) -> Generator[Picture]:
        for index, file in enumerate(self._files):
            time_s = index / self.read.image_fps
            yield Picture(index, time_s, 0, partial(self._develop, file))

    def _develop(self, file: Path) -> NDArray[np.uint8] | None:
        image = self._load(file)
        self.num_decoded += image is not None
        self._damage["images that could not be read"] += image is None
        return image

    def _load(self, file: Path) -> NDArray[np.uint8] | None:
        # FFmpeg rather than OpenCV: one path to upright BGR, and no words on the console. From
        # memory, because FFmpeg takes a % in a name for a numbered sequence.
        try:
            with av.open(io.BytesIO(file.read_bytes()), "r") as container:
                for frame in container.decode(video=0):
                    return upright_bgr(frame, self._reformatter, view_of(frame))
        except (av.FFmpegError, OSError, IndexError) as error:
            logger.debug("%s: %s", file, error)
        return None


def image_files(folder: Path) -> list[Path]:
    """Return the images directly in a folder, in natural order.

    Raises:
        SourceError: If the folder cannot be listed.
    """
    return listed(folder, IMAGE_SUFFIXES)


def listed(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    """Return the visible files directly in a folder that have one of the suffixes.

    Raises:
        SourceError: If the folder cannot be listed.
    """
    try:
        entries = [
            entry
            for entry in folder.iterdir()
            if entry.suffix.lower() in suffixes and not entry.name.startswith(".")
        ]
    except OSError as error:
        raise SourceError(f"{folder}: cannot be listed ({error.strerror})") from error
    return sorted((entry for entry in entries if entry.is_file()), key=natural_key)


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Return a sort key that counts as people do: `f2.png` before `f10.png`."""
    pieces = re.split(r"([0-9]+)", str(path))
    return [(0, int(p), "") if i % 2 else (1, 0, p.casefold()) for i, p in enumerate(pieces)]


def _described(
    name: str, folder: Path, num_files: int, first: NDArray[np.uint8], fps: float
) -> StreamInfo:
    return StreamInfo(
        name=name,
        path=str(folder),
        width=first.shape[1],
        height=first.shape[0],
        fps=fps,
        num_frames=num_files,
        duration_s=num_files / fps,
        started_at=None,
        codec="images",
    )
