"""Recorded video files, through PyAV (FFmpeg's libraries).

FFmpeg's own messages stay silent (PyAV discards them unless told otherwise); what matters of them
is counted in `VideoSource.problem`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipeline.errors import SourceError
from pipeline.sources.clock import FrameClock
from pipeline.sources.pixels import PictureShape, View, upright_bgr
from pipeline.sources.source import Picture, ReadConfig, RecordedSource, StreamInfo

logger = logging.getLogger(__name__)

FALLBACK_FPS = 25.0
"""Frames per second of a file that has neither timestamps nor a believable frame rate."""
# A rate above this is a time base that a muxer wrote in the frame rate's place.
_MAX_FPS = 480.0
# A cut file can fail once for every frame that is missing; no use asking for each.
_MAX_READ_ERRORS = 100
# `tty` renders any .txt as video; the text of an operator's notes is not a recording.
_NOT_VIDEO = frozenset({"tty"})


class VideoSource(RecordedSource):
    """One video file as a stream.

    Opening decodes one frame, so that a file that yields nothing fails at once and the size is
    known after rotation and pixel shape. `start_s` costs a pass over the packets before it (no
    decoding), which is what keeps `Frame.index` exact; where the packets' timestamps cannot be
    trusted, everything is decoded from the beginning instead.

    Frames drawn from damaged data are yielded (the decoder conceals what it can) and counted.
    """

    def __init__(self, path: Path, name: str, read: ReadConfig) -> None:
        """Open a file and look at its first frame.

        Args:
            path: A regular file.
            name: Name of the stream.
            read: Which frames to read.

        Raises:
            SourceError: If the file cannot be read as video, or no frame of it decodes.
        """
        self._path = path
        with _opened(path) as (container, stream):
            first = _first_frame(container, stream, path)
            info = _described(name, path, container, stream, first)
        self._origin_pts = first.pts
        self._reformatter = VideoReformatter()
        super().__init__(info, read)

    def _pictures(self) -> Generator[Picture]:
        start = self._start()
        with _opened(self._path, self.read.decode_threads) as (container, stream):
            fps = self.info.fps or FALLBACK_FPS
            clock = FrameClock(_time_base(stream), fps, self._oddities, self._origin_pts)
            packets = _Packets(container, stream, self._damage)
            shape = PictureShape(stream)
            index, is_before = start.index, True
            for frame in _decoded(stream, islice(packets, start.num_packets, None), self._damage):
                self.num_decoded += 1
                time_s = clock.tick(frame.pts)
                view = shape.view(frame)
                is_before = is_before and frame.pts is not None and frame.pts < start.pts
                if is_before:
                    continue
                segment = clock.segment + shape.num_changes
                yield Picture(index, time_s, segment, partial(self._develop, frame, view))
                index += 1
            self._note_early_end(container, stream, packets)

    def _develop(self, frame: VideoFrame, view: View) -> NDArray[np.uint8] | None:
        try:
            return upright_bgr(frame, self._reformatter, view)
        except av.FFmpegError as error:
            logger.debug("%s: frame at pts %s not converted: %s", self._path, frame.pts, error)
            self._damage["frames whose pixels could not be converted"] += 1
            return None

    def _start(self) -> _Start:
        if self.read.start_s == 0 or self._origin_pts is None:
            return _FROM_THE_BEGINNING
        with _opened(self._path) as (container, stream):
            ticks = Fraction(str(self.read.start_s)) / _time_base(stream)
            start_pts = self._origin_pts - int(-ticks // 1)
            return _find_start(_Packets(container, stream, Counter()), self._origin_pts, start_pts)

    def _note_early_end(
        self, container: InputContainer, stream: VideoStream, packets: _Packets
    ) -> None:
        promised = len(stream.index_entries) if container.format.name.startswith("mov") else 0
        if promised > packets.num_read:
            self._early_end = f"the file ends early: {packets.num_read} of {promised} frames"
        duration_s = self.info.duration_s
        # A second stream may simply be longer, so only a lone one's length proves anything.
        if promised or duration_s is None or self.info.fps is None or len(container.streams) > 1:
            return
        read_s = packets.seconds(self._origin_pts)
        if read_s is not None and duration_s - read_s > max(1.0, 0.02 * duration_s):
            self._early_end = f"the file ends early: {read_s:.1f} of {duration_s:.1f} s"


@dataclass(frozen=True, slots=True)
class _Start:
    """Where decoding begins: packets to leave out, and the first wanted frame's pts and index."""

    num_packets: int
    pts: float
    index: int


_FROM_THE_BEGINNING = _Start(0, float("-inf"), 0)


class _Packets:
    """The packets of one stream, past every stretch that cannot be read."""

    def __init__(
        self, container: InputContainer, stream: VideoStream, damage: Counter[str]
    ) -> None:
        self.num_read = 0
        self._container = container
        self._stream = stream
        self._damage = damage
        self._end_pts: int | None = None

    def __iter__(self) -> Iterator[Packet[VideoStream]]:
        for _ in range(_MAX_READ_ERRORS):
            try:
                for packet in self._container.demux(self._stream):
                    self._note(packet)
                    # Empty ones are dropped frames, and PyAV's signal to drain the decoder.
                    if packet.size > 0:
                        yield packet
                return
            except av.FFmpegError as error:
                logger.debug("%s: %s", self._container.name, error)
                self._damage["stretches of the file that could not be read"] += 1

    def seconds(self, origin_pts: int | None) -> float | None:
        """Return how long the packets last from the origin on, None without timestamps."""
        if self._end_pts is None or origin_pts is None:
            return None
        return float((self._end_pts - origin_pts) * _time_base(self._stream))

    def _note(self, packet: Packet[VideoStream]) -> None:
        self.num_read += packet.size > 0 or packet.dts is not None
        self._damage["packets with missing data, or a gap before them"] += packet.is_corrupt
        if packet.pts is not None:
            self._end_pts = max(self._end_pts or 0, packet.pts + (packet.duration or 0))


def _decoded(
    stream: VideoStream, packets: Iterator[Packet[VideoStream]], damage: Counter[str]
) -> Iterator[VideoFrame]:
    """Yield what decodes, in order of presentation; count what does not."""
    for packet in packets:
        yield from _decoded_packet(stream, packet, damage)
    yield from _decoded_packet(stream, None, damage)


def _decoded_packet(
    stream: VideoStream, packet: Packet[VideoStream] | None, damage: Counter[str]
) -> list[VideoFrame]:
    try:
        frames = stream.decode(packet)
    except av.FFmpegError as error:
        logger.debug("packet at dts %s not decoded: %s", packet and packet.dts, error)
        damage["packets that could not be decoded"] += 1
        return []
    damage["frames drawn from damaged data"] += sum(frame.is_corrupt for frame in frames)
    return frames


def _find_start(packets: _Packets, origin_pts: int, start_pts: int) -> _Start:
    """Find the last key frame from which the frame at `start_pts` can be decoded, and its index.

    A frame's index is the number of packets presented before it, which holds when every packet
    carries one frame and true timestamps; otherwise the beginning is returned.
    """
    pts: list[int] = []
    key_ordinal, last_dts = 0, float("-inf")
    for ordinal, packet in enumerate(packets):
        dts = last_dts if packet.dts is None else packet.dts
        if packet.pts is None or dts < last_dts or (ordinal == 0 and packet.pts != origin_pts):
            return _FROM_THE_BEGINNING
        last_dts = dts
        if packet.is_keyframe and packet.pts <= start_pts:
            key_ordinal = ordinal
        if not packet.is_discard:
            pts.append(packet.pts)
        if dts > start_pts:
            break
    return _Start(key_ordinal, start_pts, sum(p < start_pts for p in pts))


@contextmanager
def _opened(path: Path, threads: int = 1) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file for reading; closed on every way out.

    Raises:
        SourceError: If it is not a file, not readable, not video, or of an unknown codec.
    """
    _check_file(path)
    try:
        # The prefix keeps a colon in a name from being read as a protocol, and the white list
        # keeps a playlist in disguise from reaching for the network.
        container = av.open(
            f"file:{path}", "r", options={"protocol_whitelist": "file"}, metadata_errors="replace"
        )
    except (av.FFmpegError, OSError, UnicodeError) as error:
        raise SourceError(f"{path}: {_why_not_opened(path)} ({_words(error)})") from error
    with container:
        stream = _video_stream(container, path)
        stream.codec_context.thread_type = "NONE" if threads == 1 else "AUTO"
        stream.codec_context.thread_count = threads
        yield container, stream


def _check_file(path: Path) -> None:
    try:
        if not path.exists():
            raise SourceError(f"{path}: no such file")
        if not path.is_file():
            raise SourceError(f"{path}: expected a regular file")
        if path.stat().st_size == 0:
            raise SourceError(f"{path}: the file is empty (0 bytes)")
        path.open("rb").close()
    except PermissionError as error:
        raise SourceError(f"{path}: no permission to read it") from error
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from error


def _why_not_opened(path: Path) -> str:
    with path.open("rb") as file:
        is_mp4 = file.read(8)[4:] == b"ftyp"
    if is_mp4:
        return (
            "an MP4 without its index (moov), so nothing of it can be decoded; the recording or "
            "the copy was probably cut off before its end: copy it again or repair it"
        )
    return "not a video that FFmpeg can read; expected a file such as .mp4, .mkv, .avi or .ts"


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if container.format.name in _NOT_VIDEO:
        raise SourceError(f"{path}: a text file, not a video")
    if not streams:
        kinds = ", ".join(stream.type for stream in container.streams) or "none at all"
        raise SourceError(f"{path}: no video in it; its streams are: {kinds}")
    if getattr(streams[0], "codec_context", None) is None:
        raise SourceError(f"{path}: its video codec is not known to this build of FFmpeg")
    return streams[0]


def _first_frame(container: InputContainer, stream: VideoStream, path: Path) -> VideoFrame:
    damage: Counter[str] = Counter()
    packets = _Packets(container, stream, damage)
    for frame in _decoded(stream, iter(packets), damage):
        return frame
    raise SourceError(
        f"{path}: no frame could be decoded ({packets.num_read} {stream.codec_context.name} "
        f"packets, all damaged or empty)"
    )


def _described(
    name: str, path: Path, container: InputContainer, stream: VideoStream, first: VideoFrame
) -> StreamInfo:
    try:
        image = upright_bgr(first, VideoReformatter(), PictureShape(stream).view(first))
    except av.FFmpegError as error:
        raise SourceError(
            f"{path}: pixels of format {first.format.name} cannot be converted to BGR"
        ) from error
    fps = _nominal_fps(stream)
    duration_s = _duration_s(container, stream)
    return StreamInfo(
        name=name,
        path=str(path),
        width=image.shape[1],
        height=image.shape[0],
        fps=fps,
        num_frames=None if fps is None or duration_s is None else round(fps * duration_s),
        duration_s=duration_s,
        started_at=stream.metadata.get("creation_time", container.metadata.get("creation_time")),
        codec=stream.codec_context.codec.canonical_name,
    )


def _time_base(stream: VideoStream) -> Fraction:
    return stream.time_base or Fraction(1, 1000)


def _nominal_fps(stream: VideoStream) -> float | None:
    rates = stream.average_rate, stream.guessed_rate, stream.base_rate
    return next((float(rate) for rate in rates if rate and 0 < rate <= _MAX_FPS), None)


def _duration_s(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration is not None:
        return float(stream.duration * _time_base(stream))
    return None if container.duration is None else container.duration / av.time_base
