"""A source: one stream of frames, and what every recorded source shares.

with open_source(path, name, ReadConfig(stride=2)) as source:
    for frame in source:
        ...
print(source.problem or "read to the end")
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from gait.closing import Closing
from gait.strict import StrictModel
from pipeline.errors import SourceError
from pipeline.values import Frame


class ReadConfig(StrictModel):
    """Which frames of a recording are read, and how.

    Attributes:
        start_s: Seconds after the first frame at which reading begins; earlier frames are not
            yielded. `Frame.index` and `Frame.time_s` still count from the file's first frame.
        end_s: Seconds after the first frame before which reading ends; None reads to the end.
        stride: Keep every n-th frame, beginning with the first in range. Higher is faster, at the
            price of a coarser walk (gait needs about 10 frames a second) and weaker tracks.
        max_frames: Stop after this many kept frames; None keeps all.
        image_fps: Frames per second of a folder of images, which has no clock of its own. Higher
            makes the same images pass in less time.
        decode_threads: Threads of the video decoder; 0 is one per core. More decodes 4K and larger
            faster, at the price of memory, and of up to that many frames lost beside damaged data.
            One decodes about 230 frames a second of 720p H.264.
    """

    start_s: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    end_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    stride: int = Field(default=1, ge=1)
    max_frames: int | None = Field(default=None, ge=1)
    image_fps: float = Field(default=25.0, gt=0, allow_inf_nan=False)
    decode_threads: int = Field(default=1, ge=0)

    @model_validator(mode="after")
    def _start_before_end(self) -> Self:
        if self.end_s is not None and self.start_s >= self.end_s:
            raise ValueError(
                f"expected start_s < end_s, got start_s={self.start_s:g} and end_s={self.end_s:g}"
            )
        return self

    def expected_frames(self, info: StreamInfo) -> int | None:
        """Return about how many frames a source so described will yield, None when unknown."""
        num_frames = info.num_frames
        if num_frames is not None and info.fps:
            end = num_frames if self.end_s is None else min(num_frames, self.end_s * info.fps)
            num_frames = -(-max(0, round(end - self.start_s * info.fps)) // self.stride)
        limits = [n for n in (num_frames, self.max_frames) if n is not None]
        return min(limits) if limits else None


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What a recording says of itself; of the whole file, whatever part of it is read.

    Attributes:
        name: Name of the stream.
        path: File or folder it is read from.
        width: Pixels across the first frame, upright and with square pixels.
        height: Pixels down the first frame.
        fps: Nominal frames per second, None when the file does not say.
        num_frames: Frames in the file, an estimate; None when unknown.
        duration_s: Seconds, None when unknown.
        started_at: When the recording began, ISO 8601, if its metadata says so.
        codec: Name of the video codec, such as `h264`.
    """

    name: str
    path: str
    width: int
    height: int
    fps: float | None
    num_frames: int | None
    duration_s: float | None
    started_at: str | None
    codec: str


class Source(Protocol):
    """One stream: iterate for frames, close when done.

    A source that has opened never raises for damage in the recording: it yields what decodes, and
    says afterwards in `problem` what did not.
    """

    @property
    def name(self) -> str:
        """Name of the stream, also `Frame.stream`."""

    @property
    def info(self) -> StreamInfo:
        """What is known before the first frame is read."""

    @property
    def warnings(self) -> list[str]:
        """Oddities so far that cost no frame (a change of size, a missing timestamp)."""

    @property
    def problem(self) -> str | None:
        """What was lost so far (truncated, damaged), in words; None when nothing was."""

    @property
    def num_decoded(self) -> int:
        """Frames decoded so far, kept or not."""

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames in order of presentation; `time_s` rises strictly."""

    def close(self) -> None:
        """Free the file; harmless the second time."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded frame whose pixels have not been converted yet.

    Attributes:
        index: Place in the stream.
        time_s: Seconds since the stream's first frame.
        segment: Changes where nothing may be tracked across; a change of size need not be told.
        develop: Returns the BGR image, or None when it turns out to be unreadable.
    """

    index: int
    time_s: float
    segment: int
    develop: Callable[[], NDArray[np.uint8] | None]


class RecordedSource(Closing):
    """A source with an end: chooses frames by `ReadConfig` and numbers the epochs.

    Subclasses yield every `Picture` of the recording; only those kept are developed. Iterating
    again reads again from the start. Iterate and close in the same thread.
    """

    def __init__(self, info: StreamInfo, read: ReadConfig) -> None:
        self.info = info
        self.read = read
        self.num_decoded = 0
        self._oddities: Counter[str] = Counter()
        self._damage: Counter[str] = Counter()
        self._early_end: str | None = None
        self._reading: Generator[Frame] | None = None
        self._closed = False

    @property
    def name(self) -> str:
        """Name of the stream."""
        return self.info.name

    @property
    def warnings(self) -> list[str]:
        """Oddities so far that cost no frame, each with how often."""
        return _counted(self._oddities)

    @property
    def problem(self) -> str | None:
        """What was lost so far, in words; None when nothing was."""
        early_end = [] if self._early_end is None else [self._early_end]
        return "; ".join(early_end + _counted(self._damage)) or None

    def __iter__(self) -> Iterator[Frame]:
        """Yield the chosen frames.

        Raises:
            SourceError: If the range holds no frame (raised by the first `next`).
        """
        if self._closed:
            raise ValueError(f"{self.name}: the source is closed; open it again to read it again")
        self._stop()
        self.num_decoded = 0
        self._oddities.clear()
        self._damage.clear()
        self._early_end = None
        self._reading = self._frames()
        return self._reading

    def close(self) -> None:
        """Free the file; harmless the second time."""
        self._closed = True
        self._stop()

    @abstractmethod
    def _pictures(self) -> Generator[Picture]:
        """Yield every picture of the recording, counting into `num_decoded`."""

    def _stop(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.close()

    def _frames(self) -> Generator[Frame]:
        num_frames, epoch, last = 0, 0, None
        with closing(self._pictures()) as pictures:
            for picture in self._chosen(pictures):
                image = picture.develop()
                if image is None:
                    continue
                now = (picture.segment, image.shape)
                if last is not None and now != last:
                    epoch += 1
                    self._oddities["changes of picture size or clock, tracks end there"] += 1
                last = now
                yield Frame(image, self.name, picture.index, picture.time_s, epoch)
                num_frames += 1
                if num_frames == self.read.max_frames:
                    break
        if num_frames == 0:
            raise SourceError(self._nothing_read())

    def _chosen(self, pictures: Iterator[Picture]) -> Iterator[Picture]:
        first: int | None = None
        for picture in pictures:
            if self.read.end_s is not None and picture.time_s >= self.read.end_s:
                return
            if picture.time_s < self.read.start_s:
                continue
            first = picture.index if first is None else first
            if (picture.index - first) % self.read.stride == 0:
                yield picture

    def _nothing_read(self) -> str:
        end = "the end" if self.read.end_s is None else f"{self.read.end_s:g} s"
        lasts = "" if self.info.duration_s is None else f"; it lasts {self.info.duration_s:.2f} s"
        said = "" if self.problem is None else f" ({self.problem})"
        return f"{self.info.path}: no frame from {self.read.start_s:g} s to {end}{lasts}{said}"


def _counted(notes: Counter[str]) -> list[str]:
    return [f"{text}: {count}" for text, count in notes.items() if count]
