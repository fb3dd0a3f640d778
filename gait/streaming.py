"""Walks that grow: each new silhouette is computed once, and the embedding is that of the whole.

with StreamingEncoder(model, device="auto") as encoder:
    encoder.extend([("door/1", silhouettes), ("door/2", others)])     # as they come, any number
    embeddings = encoder.embed(["door/1", "door/2"])                  # when they are wanted
    encoder.end(["door/1"])

or, in a pipeline that hands over tracklets which continue each other (`Tracklet.offset`):

    embeddings = encoder.encode(tracklets)
"""

from __future__ import annotations

import copy
import logging
from collections import Counter, deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gait.closing import Closing
from gait.encoder import pick_device
from gait.errors import DeviceLost, OutOfMemory
from gait.model.checkpoint import model_hash
from gait.model.folded import FoldedGait, fold
from gait.model.trackletgait import TrackletGait
from gait.streaming_state import GrowingNetwork, Piece, StatePrecision
from gait.streaming_walks import StreamingCounts, Walk, Walks, checked
from gait.tracklet import Tracklet

logger = logging.getLogger(__name__)

_BATCH_FRAMES = {"cpu": 64, "cuda": 512}


@dataclass(frozen=True, slots=True)
class _Turn:
    """What one walk does in one pass of the network.

    Attributes:
        key: Its name.
        stop: Silhouettes the state knows afterwards.
        is_done: Whether those are all.
        has_tail: Whether the tail is computed.
    """

    key: Hashable
    stop: int
    is_done: bool
    has_tail: bool


class StreamingEncoder(Closing):
    """Turns walks into embeddings while they grow.

    An embedding is, to 5e-5 in float32, the one `gait.encoder.Encoder` gives for all silhouettes
    of the walk so far (of its first 720), but every silhouette goes through the network only once.
    Asking costs the tail: for standard as much as 15 silhouettes (`tail_frames`). Without the tail
    it costs nothing, and the last `lag` silhouettes (27 for standard) are not in it yet.

    What the network remembers of a walk (23 MB for standard in float32, half of it in float16)
    is given up for others when the room for it is full, the longest unused first, and computed
    again from the walk's silhouettes, which are kept (2.8 kB each), when the walk goes on. When
    those take too much, the walk longest unused is forgotten.

    To be used by one thread at a time.

    Attributes:
        precision: What maps are remembered in.
        is_trained: False when the weights are random and identities mean nothing.
        model_hash: SHA-256 over the weights; "" for a network that was given folded.
    """

    def __init__(
        self,
        model: TrackletGait | FoldedGait,
        *,
        device: str = "cpu",
        precision: StatePrecision = "float32",
        tail: bool = True,
        max_memory_bytes: int = 1 << 30,
        max_kept_bytes: int = 1 << 28,
        batch_frames: int | None = None,
        description: str = "TrackletGait",
        is_trained: bool = True,
    ) -> None:
        """Copy a network.

        Args:
            model: The network; it stays as it is.
            device: As `gait.encoder.pick_device` takes it.
            precision: What maps are remembered in; a GPU computes in it too. The halves take half
                the memory, at the price of the third digit.
            tail: Whether `encode` takes a walk's last `lag` silhouettes into account. True is
                exact at once, at the price of the tail; without it they count only from the next
                tracklet on, in a walk's first `lag` silhouettes and a track's last tracklet
                excepted.
            max_memory_bytes: Room for what the network remembers. More computes less again.
            max_kept_bytes: Room for silhouettes; those of the walks in one call always fit.
            batch_frames: Silhouettes in one pass; None is 64 on a CPU and 512 on a GPU. More use a
                GPU better, at the price of about 5 MB of memory each; a CPU gains little.
            description: What the network is.
            is_trained: Whether its weights come from training.

        Raises:
            ValueError: `device` is not on this machine, or there is no room for one walk.
            RuntimeFailed: The device has no room, or does not answer.
        """
        folded = copy.deepcopy(model) if isinstance(model, FoldedGait) else fold(model)
        self._folded = folded.cpu()
        self.precision: StatePrecision = precision
        self._description = description
        self._tail = tail
        self.is_trained = is_trained
        self.model_hash = model_hash(model) if isinstance(model, TrackletGait) else ""
        self._open(pick_device(device))
        self._batch_frames = batch_frames or _BATCH_FRAMES[self._device.type]
        if max_memory_bytes < self.state_bytes:
            raise ValueError(
                f"max_memory_bytes: expected room for one walk, {self.state_bytes} bytes for this "
                f"network in {precision}, got {max_memory_bytes}"
            )
        self._walks = Walks(
            max_states=max_memory_bytes // self.state_bytes, max_kept_bytes=max_kept_bytes
        )

    def extend(self, walks: Iterable[tuple[Hashable, NDArray[np.uint8]]]) -> None:
        """Take new silhouettes of walks.

        Args:
            walks: Names and silhouettes, each shape (T, 64, 44), or (T, 64, 64) which is cut;
                uint8. A name that is not known begins a walk.

        Raises:
            SilhouetteError: Something is no silhouettes; nothing was taken.
            RuntimeFailed: What the device reports. The silhouettes are taken all the same.
        """
        taken = [(key, checked(key, silhouettes)) for key, silhouettes in walks]
        for key, silhouettes in taken:
            self._walks.append(key, silhouettes)
        keys = dict.fromkeys((key for key, _ in taken), False)
        self._walks.forget(keys)
        self._run(keys, embeds=False)

    def embed(
        self, keys: Sequence[Hashable], *, is_final_only: bool = False
    ) -> list[NDArray[np.float32]]:
        """Return the embeddings of walks, each (256, 16), in order.

        Args:
            keys: Their names.
            is_final_only: Leave out the tail of walks of more than `lag` silhouettes.

        Raises:
            ValueError: There is no such walk, or it has no silhouettes.
            RuntimeFailed: What the device reports; the walks are as they were.
        """
        for key in keys:
            walk = self._walks.get(key)
            if walk is None or not walk.num:
                raise ValueError(
                    f"walk {key!r}: expected one with silhouettes, got none; it was not begun, "
                    "has ended, or was forgotten for room"
                )
        found = self._run(dict.fromkeys(keys, not is_final_only), embeds=True)
        return [found[key] for key in keys]

    def end(self, keys: Iterable[Hashable]) -> None:
        """Forget walks, known or not."""
        self._walks.end(keys)

    def evict(self, keys: Iterable[Hashable]) -> None:
        """Give up what the network remembers of walks; they can go on all the same.

        Raises:
            KeyError: There is no such walk.
        """
        self._walks.evict(keys)

    def encode(self, tracklets: Sequence[Tracklet]) -> list[NDArray[np.float32]]:
        """Return the embedding of the walk that each tracklet begins or continues, in order.

        A tracklet of offset 0 begins its track's walk anew. One that does not continue what is
        known begins it too, and is counted (`counts.lost_beginnings`): its embedding is that of
        the silhouettes there are. A track's last tracklet frees what is known of it.

        Raises:
            ValueError: A tracklet has no silhouettes; nothing was taken.
            RuntimeFailed: What the device reports.
        """
        for tracklet in tracklets:
            if not len(tracklet):
                raise ValueError(
                    f"{tracklet.uid}: expected a tracklet with silhouettes, got one without; "
                    "such tracklets go to `note`"
                )
        embeddings: dict[int, NDArray[np.float32]] = {}
        for wave in _waves(tracklets):
            found = self._encode_wave([tracklets[index] for index in wave])
            embeddings.update(zip(wave, found, strict=True))
        return [embeddings[index] for index in range(len(tracklets))]

    def note(self, tracklets: Iterable[Tracklet]) -> None:
        """Forget the tracks that ended with these tracklets."""
        self.end(_track(tracklet) for tracklet in tracklets if tracklet.is_last)

    @property
    def description(self) -> str:
        """One line for a report: network, precision and device."""
        return f"{self._description}, streaming, {self.precision} on {self._device}"

    @property
    def device(self) -> str:
        """Where it computes now."""
        return str(self._device)

    @property
    def counts(self) -> StreamingCounts:
        """What has happened so far."""
        return self._walks.counts

    @property
    def lag(self) -> int:
        """Silhouettes by which an embedding without the tail is behind."""
        return self._network.lag

    @property
    def state_bytes(self) -> int:
        """Memory of what the network remembers of one walk."""
        return self._network.state_bytes

    @property
    def memory_bytes(self) -> int:
        """Memory of what the network remembers of all walks; never above `max_memory_bytes`."""
        return self._walks.memory_bytes

    @property
    def kept_bytes(self) -> int:
        """Memory of the silhouettes that are kept."""
        return self._walks.kept_bytes

    def __len__(self) -> int:
        """How many walks there are."""
        return len(self._walks)

    def close(self) -> None:
        """Forget all walks."""
        self._walks.clear()

    def _open(self, device: torch.device) -> None:
        self._network = GrowingNetwork(self._folded, device=device, precision=self.precision)
        self._device = device

    def _encode_wave(self, tracklets: Sequence[Tracklet]) -> list[NDArray[np.float32]]:
        """Encode tracklets of different tracks."""
        for tracklet in tracklets:
            self._continue(tracklet)
        tails: dict[Hashable, bool] = {
            _track(tracklet): self._tail or tracklet.is_last for tracklet in tracklets
        }
        self._walks.forget(tails)
        found = self._run(tails, embeds=True)
        self.note(tracklets)
        return [found[_track(tracklet)] for tracklet in tracklets]

    def _continue(self, tracklet: Tracklet) -> None:
        key, walk = _track(tracklet), self._walks.get(_track(tracklet))
        known = 0 if walk is None else walk.next_offset
        if tracklet.offset and tracklet.offset != known:
            logger.warning(
                "%s: expected to have the first %d silhouettes of its walk, have %d; the walk "
                "begins with this tracklet", tracklet.uid, tracklet.offset, known,
            )  # fmt: skip
            self._walks.count(lost_beginnings=1)
        if not tracklet.offset or tracklet.offset != known:
            self._walks.begin(key, begin=tracklet.offset)
        self._walks.append(key, tracklet.silhouettes)

    def _run(
        self, tails: Mapping[Hashable, bool], *, embeds: bool
    ) -> dict[Hashable, NDArray[np.float32]]:
        """Bring walks up to date, and embed them if asked, each with the tail or without."""
        waiting = deque(tails)
        embeddings: dict[Hashable, NDArray[np.float32]] = {}
        while waiting:
            batch = self._next_batch(waiting, tails, embeds=embeds)
            try:
                made = self._pass(batch, embeds=embeds)
            except OutOfMemory as error:
                self._want_less(batch, error)
                waiting.extendleft(turn.key for turn in reversed(batch))
            except DeviceLost as error:
                self._move_to_cpu(error)
                waiting.extendleft(turn.key for turn in reversed(batch))
            else:
                done = [index for index, turn in enumerate(batch) if turn.is_done]
                embeddings.update((batch[index].key, made[index]) for index in done if embeds)
                waiting.extendleft(turn.key for turn in reversed(batch) if not turn.is_done)
        return embeddings

    def _next_batch(
        self, waiting: deque[Hashable], tails: Mapping[Hashable, bool], *, embeds: bool
    ) -> list[_Turn]:
        """Take walks from `waiting`, as many as have room in one pass."""
        batch: list[_Turn] = []
        room = self._batch_frames
        while waiting and len(batch) < self._walks.max_states:
            turn = self._turn(waiting[0], wants_tail=tails[waiting[0]], embeds=embeds)
            room -= turn.stop - self._walks[turn.key].age + (self.lag if turn.has_tail else 0)
            if batch and room < 0:
                break
            batch.append(turn)
            waiting.popleft()
        return batch

    def _turn(self, key: Hashable, *, wants_tail: bool, embeds: bool) -> _Turn:
        walk = self._walks[key]
        stop = min(walk.num, walk.age + self._batch_frames)
        is_done = stop == walk.num
        needs_tail = wants_tail or walk.num <= self.lag
        return _Turn(key, stop, is_done, embeds and is_done and needs_tail)

    def _pass(self, batch: Sequence[_Turn], *, embeds: bool) -> Sequence[NDArray[np.float32]]:
        """Send a batch through the network; if that fails its walks have lost their states."""
        walks = [self._walks[turn.key] for turn in batch]
        self._walks.use([turn.key for turn in batch])
        try:
            pieces = [self._piece(walk, turn) for walk, turn in zip(walks, batch, strict=True)]
            peaks_NCHW = self._network.advance(pieces)
            made = list(self._network.embed(peaks_NCHW)) if embeds else []
        except BaseException:
            for walk in walks:
                walk.state = None  # nobody knows how far it came
            raise
        for walk in walks:
            walk.seen = max(walk.seen, walk.age)
        return made

    def _piece(self, walk: Walk, turn: _Turn) -> Piece:
        if walk.state is None:
            walk.state = self._network.new_state()
            if walk.seen:
                self._walks.count_rebuild(walk)
        return Piece(walk.state, walk.frames(walk.age, turn.stop), turn.has_tail)

    def _want_less(self, batch: Sequence[_Turn], error: OutOfMemory) -> None:
        """Halve what is remembered and computed at once.

        Raises:
            OutOfMemory: There is nothing left to halve.
        """
        if self._batch_frames == 1 and self._walks.max_states == 1:
            raise error
        self._batch_frames = max(1, self._batch_frames // 2)
        remembered = self._walks.num_states + len(batch)
        self._walks.max_states = max(1, min(self._walks.max_states, remembered) // 2)
        self._walks.use([])
        logger.warning(
            "%s; going on with %d silhouettes at once and %d walks in memory",
            error, self._batch_frames, self._walks.max_states,
        )  # fmt: skip

    def _move_to_cpu(self, error: DeviceLost) -> None:
        """Begin again on the CPU, from the silhouettes.

        Raises:
            DeviceLost: It was on the CPU.
        """
        if self._device.type == "cpu":
            raise error
        logger.warning("%s; going on on the CPU, slower", error)
        self._walks.evict(list(self._walks))
        self._batch_frames = min(self._batch_frames, _BATCH_FRAMES["cpu"])
        self._open(torch.device("cpu"))


def _track(tracklet: Tracklet) -> tuple[str, int]:
    return tracklet.stream, tracklet.track_id


def _waves(tracklets: Sequence[Tracklet]) -> list[list[int]]:
    """Return indices in groups in which every track comes once, its tracklets in order."""
    waves: list[list[int]] = []
    times: Counter[tuple[str, int]] = Counter()
    for index, tracklet in enumerate(tracklets):
        wave = times[_track(tracklet)]
        times[_track(tracklet)] += 1
        if wave == len(waves):
            waves.append([])
        waves[wave].append(index)
    return waves
