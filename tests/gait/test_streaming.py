from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from gait.encoder import MAX_FRAMES, Encoder
from gait.errors import DeviceLost, OutOfMemory, RuntimeFailed, SilhouetteError
from gait.model.folded import FoldedGait, fold
from gait.model.trackletgait import VARIANTS, TrackletGait, TrackletGaitConfig
from gait.silhouette import to_model_input
from gait.streaming import StreamingEncoder
from gait.streaming_state import GrowingNetwork, Piece, StatePrecision, tail_frames
from gait.tracklet import Tracklet

Embedding = NDArray[np.float32]

DEEP = TrackletGaitConfig(  # nine temporal units, as standard has
    name="deep", channels=(2, 4, 4, 4), stem_channels=2, temporal_groups=2, embedding_channels=8
)
FLAT = DEEP.model_copy(update={"name": "flat", "blocks": (1, 1, 1, 0)})
NETWORKS = {
    "nano": VARIANTS["nano"],
    "kernel 3": DEEP.model_copy(update={"temporal_kernel": 3}),
    "kernel 1": FLAT.model_copy(update={"temporal_kernel": 1}),
    "no temporal branch": FLAT.model_copy(update={"temporal_kernel": None}),
    "strided": FLAT.model_copy(update={"downsampling": "strided"}),
    "max": FLAT.model_copy(update={"downsampling": "max"}),
    "average": FLAT.model_copy(update={"downsampling": "average"}),
    "conv3x3 stem": FLAT.model_copy(update={"stem": "conv3x3"}),
}
TOLERANCE = 5e-5  # float32 rounds differently in every order of sums


@cache
def network(config: str) -> TrackletGait:
    """A network whose norms shift: a map of nothing is not zero, so padding cannot hide."""
    generator = torch.Generator().manual_seed(0)
    known = {"deep": DEEP, "flat": FLAT, **NETWORKS}
    model = TrackletGait.random(known[config], generator)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
            assert module.running_mean is not None
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.bias.data.normal_(0, 0.3, generator=generator)
    return model.eval()


@cache
def walk(seed: int = 0, length: int = 80) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (length, 64, 44), np.uint8)


@torch.inference_mode()
def whole(config: str, silhouettes: NDArray[np.uint8]) -> Embedding:
    """What the network that is trained says of the whole sequence."""
    frames = torch.from_numpy(to_model_input(silhouettes, np.float32))
    embedding: Embedding = network(config)(frames[None])[0].numpy()
    return embedding


@torch.inference_mode()
def final_only(config: str, silhouettes: NDArray[np.uint8], lag: int) -> Embedding:
    """What the whole sequence says of its frames but the last `lag`."""
    folded = fold(network(config))
    x = folded.stem(torch.from_numpy(to_model_input(silhouettes, np.float32)))
    for unit in folded.units:
        x = unit(x, len(silhouettes))
    embedding: Embedding = folded.head(x[: len(x) - lag].amax(0, keepdim=True))[0].numpy()
    return embedding


def tracklet(
    silhouettes: NDArray[np.uint8], *, offset: int = 0, track: int = 1, is_last: bool = False
) -> Tracklet:
    indices = offset + np.arange(len(silhouettes), dtype=np.int64)
    return Tracklet(
        "cam", track, silhouettes, indices, indices / 10, (0.0, 1.0),
        is_last=is_last, offset=offset,
    )  # fmt: skip


def pieces(length: int, sizes: Sequence[int]) -> Iterator[slice]:
    start, turn = 0, 0
    while start < length:
        stop = min(length, start + sizes[turn % len(sizes)])
        yield slice(start, stop)
        start, turn = stop, turn + 1


def same(one: Embedding, other: Embedding) -> None:
    np.testing.assert_allclose(one, other, rtol=0, atol=TOLERANCE)


EVERY = tuple(range(1, 81))
SOME = (1, 2, 3, 4, 5, 6, 7, 8, 13, 14, 19, 27, 28, 29, 41)


@pytest.mark.parametrize(
    ("config", "lengths"),
    [
        ("deep", EVERY),
        ("nano", SOME),
        *(pytest.param(each, EVERY, marks=pytest.mark.slow) for each in NETWORKS),
    ],
)
def test_a_walk_has_the_embedding_of_the_whole_sequence_at_every_length(
    config: str, lengths: Sequence[int]
) -> None:
    with StreamingEncoder(network(config)) as encoder:
        for length in range(1, lengths[-1] + 1):
            encoder.extend([("walk", walk()[length - 1 : length])])
            if length in lengths:
                [embedding] = encoder.embed(["walk"])
                same(embedding, whole(config, walk()[:length]))


@pytest.mark.parametrize("config", list(NETWORKS))
@pytest.mark.parametrize("sizes", [(1,), (3,), (8,), (30,), (1, 30, 2, 8, 5)])
def test_pieces_of_any_size_give_the_embedding_of_the_whole_sequence(
    config: str, sizes: Sequence[int]
) -> None:
    checked = {3, 8, 30, 33, 41}
    with StreamingEncoder(network(config)) as encoder:
        for piece in pieces(41, sizes):
            encoder.extend([("walk", walk()[piece])])
            if piece.stop in checked:
                [embedding] = encoder.embed(["walk"])
                same(embedding, whole(config, walk()[: piece.stop]))


@pytest.mark.parametrize(
    "config", ["flat", *(pytest.param(c, marks=pytest.mark.slow) for c in ["deep", *NETWORKS])]
)
def test_720_silhouettes_are_taken_of_a_walk_as_the_encoder_does(config: str) -> None:
    long = walk(length=731)
    expected = Encoder(network(config), description="", is_trained=False).embed([long])[0]
    with StreamingEncoder(network(config)) as encoder:
        for piece in pieces(731, [30]):
            encoder.extend([("walk", long[piece])])
        same(encoder.embed(["walk"])[0], expected.astype(np.float32))
        assert encoder.counts.ignored_frames == 731 - MAX_FRAMES
        encoder.evict(["walk"])
        same(encoder.embed(["walk"])[0], expected.astype(np.float32))


def test_walks_of_all_ages_go_through_the_network_together() -> None:
    lengths = {f"walk {seed}": length for seed, length in enumerate([0, 1, 2, 5, 28, 60, 3, 80])}
    walks = {name: walk(seed) for seed, name in enumerate(lengths)}
    with StreamingEncoder(network("deep"), batch_frames=1000) as encoder:
        encoder.extend([(name, walks[name][:length]) for name, length in lengths.items()])
        grown = {
            name: min(80, length + seed) for seed, (name, length) in enumerate(lengths.items())
        }
        encoder.extend([(name, walks[name][lengths[name] : grown[name]]) for name in lengths])
        wanted = [name for name in grown if grown[name]]
        for name, embedding in zip(wanted, encoder.embed(wanted), strict=True):
            same(embedding, whole("deep", walks[name][: grown[name]]))


class Interleaved(RuleBasedStateMachine):
    """Walks that grow, are asked for, evicted, ended and begun again, in any order."""

    def __init__(self) -> None:
        super().__init__()
        model = network("flat")
        room = 2 * GrowingNetwork(fold(model), device=torch.device("cpu")).state_bytes
        self.encoder = StreamingEncoder(model, max_memory_bytes=room + 1, batch_frames=11)
        self.room = room
        self.lengths: dict[int, int] = {}

    @rule(more=st.dictionaries(st.integers(0, 3), st.integers(0, 14), min_size=1))
    def extend(self, more: dict[int, int]) -> None:
        before = {key: self.lengths.get(key, 0) for key in more}
        self.lengths |= {key: min(60, before[key] + number) for key, number in more.items()}
        self.encoder.extend(
            [(key, walk(key)[before[key] : self.lengths[key]]) for key in more],
        )

    @precondition(lambda self: any(self.lengths.values()))
    @rule(data=st.data(), is_final_only=st.booleans())
    def embed(self, data: st.DataObject, is_final_only: bool) -> None:
        known = sorted(key for key, length in self.lengths.items() if length)
        keys = data.draw(st.lists(st.sampled_from(known), min_size=1))
        lag = self.encoder.lag
        found = self.encoder.embed(keys, is_final_only=is_final_only)
        for key, embedding in zip(keys, found, strict=True):
            silhouettes = walk(key)[: self.lengths[key]]
            if is_final_only and len(silhouettes) > lag:
                same(embedding, final_only("flat", silhouettes, lag))
            else:
                same(embedding, whole("flat", silhouettes))

    @precondition(lambda self: self.lengths)
    @rule(data=st.data(), ends=st.booleans())
    def lose(self, data: st.DataObject, ends: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.lengths)))
        if ends:
            self.encoder.end([key])
            del self.lengths[key]
        else:
            self.encoder.evict([key])

    @invariant()
    def memory_is_bounded(self) -> None:
        assert self.encoder.memory_bytes <= self.room
        assert self.encoder.kept_bytes == 64 * 44 * sum(self.lengths.values())
        assert len(self.encoder) == len(self.lengths)


Interleaved.TestCase.settings = settings(max_examples=10, stateful_step_count=10, deadline=None)
TestInterleaved = Interleaved.TestCase


PRECISIONS: tuple[StatePrecision, StatePrecision] = ("float32", "float16")


def test_standard_takes_23_megabytes_a_walk_half_of_it_in_halves_and_15_frames_a_tail() -> None:
    folded = fold(TrackletGait.random(VARIANTS["standard"], torch.Generator()))
    networks = [
        GrowingNetwork(folded, device=torch.device("cpu"), precision=precision)
        for precision in PRECISIONS
    ]
    assert [each.state_bytes for each in networks] == [23_068_672, 11_534_336]
    assert [each.new_state().num_bytes for each in networks] == [23_068_672, 11_534_336]
    assert networks[0].lag == 27
    assert tail_frames(folded) == pytest.approx(15.1, abs=0.05)  # 82.8 of 5.479 GFLOP


@pytest.mark.parametrize("config", ["flat", "kernel 1", "no temporal branch"])
def test_a_silhouette_costs_one_frame_and_an_embedding_the_tail(config: str) -> None:
    folded = fold(network(config))

    def operations(work: Callable[[], object]) -> int:
        with FlopCounterMode(display=False) as counter:
            work()
        return int(counter.get_total_flops())

    blank = torch.zeros(40, 64, 44)
    head = operations(lambda: folded.head(torch.zeros(1, 4, 16, 11)))
    ten = operations(lambda: folded(blank[None, :30])) - operations(
        lambda: folded(blank[None, :20])
    )
    with StreamingEncoder(folded) as encoder:
        encoder.extend([("walk", walk()[:50])])
        assert operations(lambda: encoder.extend([("walk", walk()[50:60])])) == ten
        tail = operations(lambda: encoder.embed(["walk"])) - head
        assert tail == pytest.approx(tail_frames(folded) * ten / 10)
        assert operations(lambda: encoder.embed(["walk"], is_final_only=True)) == head


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_halves_change_the_direction_of_no_part(precision: StatePrecision) -> None:
    with StreamingEncoder(network("nano"), precision=precision) as encoder:
        for piece in pieces(60, [7]):
            encoder.extend([("walk", walk()[piece])])
        [found] = encoder.embed(["walk"])
    expected = whole("nano", walk()[:60])
    norms = np.linalg.norm(found, axis=0) * np.linalg.norm(expected, axis=0)
    assert ((found * expected).sum(0) / norms).min() >= 0.999
    assert np.abs(found - expected).max() > TOLERANCE / 10  # they did round


def test_what_is_remembered_is_given_up_and_made_again_when_room_is_short() -> None:
    model = network("flat")
    with StreamingEncoder(model) as probe:
        one = probe.state_bytes
    with StreamingEncoder(model, max_memory_bytes=one) as encoder:
        encoder.extend([("a", walk(1)[:20]), ("b", walk(2)[:10])])
        assert encoder.memory_bytes == one
        assert (encoder.counts.evictions, encoder.counts.rebuilds) == (1, 0)
        same(encoder.embed(["a"])[0], whole("flat", walk(1)[:20]))
        assert (encoder.counts.rebuilds, encoder.counts.rebuilt_frames) == (1, 20)
        encoder.end(["a", "b", "never known"])
        assert (encoder.memory_bytes, encoder.kept_bytes, len(encoder)) == (0, 0, 0)
    with pytest.raises(ValueError, match=f"room for one walk, {one} bytes"):
        StreamingEncoder(model, max_memory_bytes=one - 1)


def test_memory_that_is_too_small_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with StreamingEncoder(network("flat"), max_memory_bytes=200_000) as encoder:
        walks = range(encoder._walks.max_states + 1)
        for step in range(8):
            encoder.extend([(seed, walk(seed)[step : step + 1]) for seed in walks])
    assert caplog.text.count("computed again than for the first time") == 1


def test_the_walk_longest_unused_is_forgotten_when_silhouettes_have_no_room() -> None:
    with StreamingEncoder(network("flat"), max_kept_bytes=25 * 64 * 44) as encoder:
        encoder.extend([("a", walk()[:10])])
        encoder.extend([("b", walk()[:10])])
        encoder.embed(["a"])
        encoder.extend([("c", walk()[:10])])
        assert encoder.counts.forgotten == 1
        with pytest.raises(ValueError, match="walk 'b': expected one with silhouettes, got none"):
            encoder.embed(["a", "b"])
        assert encoder.kept_bytes == 20 * 64 * 44


def test_tracklets_that_continue_a_walk_are_embedded_with_all_of_it() -> None:
    with StreamingEncoder(network("flat")) as encoder:
        found = encoder.encode(
            [
                tracklet(walk(1)[:12]),
                tracklet(walk(2)[:5], track=2),
                tracklet(walk(1)[12:20], offset=12),
                tracklet(walk(1)[20:21], offset=20, is_last=True),
            ]
        )
        expected = [walk(1)[:12], walk(2)[:5], walk(1)[:20], walk(1)[:21]]
        for embedding, silhouettes in zip(found, expected, strict=True):
            same(embedding, whole("flat", silhouettes))
        assert len(encoder) == 1  # the other track ended
        encoder.note([tracklet(walk()[:0], track=2, is_last=True)])
        assert (len(encoder), encoder.memory_bytes) == (0, 0)
        assert encoder.counts.lost_beginnings == 0


def test_an_offset_of_0_begins_a_walk_anew() -> None:
    with StreamingEncoder(network("flat")) as encoder:
        encoder.encode([tracklet(walk(1)[:12])])
        [embedding] = encoder.encode([tracklet(walk(2)[:9])])
        same(embedding, whole("flat", walk(2)[:9]))


@pytest.mark.parametrize("before", [0, 12], ids=["nothing", "less"])
def test_a_tracklet_whose_predecessor_was_lost_begins_a_walk_and_is_counted(
    before: int, caplog: pytest.LogCaptureFixture
) -> None:
    with StreamingEncoder(network("flat")) as encoder:
        if before:
            encoder.encode([tracklet(walk()[:before])])
        [lost] = encoder.encode([tracklet(walk()[20:30], offset=20)])
        [following] = encoder.encode([tracklet(walk()[30:35], offset=30)])
        assert encoder.counts.lost_beginnings == 1
    same(lost, whole("flat", walk()[20:30]))
    same(following, whole("flat", walk()[20:35]))
    assert f"the first 20 silhouettes of its walk, have {before}" in caplog.text


def test_without_the_tail_only_final_frames_count_but_in_a_walks_beginning_and_at_its_end() -> None:
    with StreamingEncoder(network("flat"), tail=False) as encoder:
        assert encoder.lag == 6
        parts = [(0, 6, False), (6, 20, False), (20, 33, True)]
        young, grown, last = encoder.encode(
            [tracklet(walk()[a:b], offset=a, is_last=is_last) for a, b, is_last in parts]
        )
    same(young, whole("flat", walk()[:6]))
    same(grown, final_only("flat", walk()[:20], 6))
    same(last, whole("flat", walk()[:33]))


def test_what_is_no_silhouette_is_refused_and_nothing_is_taken() -> None:
    with StreamingEncoder(network("flat")) as encoder:
        with pytest.raises(SilhouetteError, match="walk 'bad': expected uint8 silhouettes"):
            encoder.extend([("good", walk()[:2]), ("bad", walk()[:2].astype(np.float32))])
        assert len(encoder) == 0
        with pytest.raises(ValueError, match="cam/1/end: expected a tracklet with silhouettes"):
            encoder.encode([tracklet(walk()[:2], track=2), tracklet(walk()[:0])])
        assert len(encoder) == 0


class Unreliable:
    """A network whose device fails as asked."""

    def __init__(self, inner: GrowingNetwork, *errors: RuntimeFailed, most: int = 10**6) -> None:
        self._inner, self._errors, self._most = inner, list(errors), most
        self.lag, self.state_bytes = inner.lag, inner.state_bytes
        self.new_state, self.embed = inner.new_state, inner.embed

    def advance(self, given: Sequence[Piece]) -> torch.Tensor:
        made = self._inner.advance(given)
        if sum(len(each.silhouettes) for each in given) > self._most:
            raise OutOfMemory("out of memory")
        if self._errors:
            raise self._errors.pop(0)
        return made


def test_too_little_memory_for_a_batch_makes_batches_smaller(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with StreamingEncoder(network("flat")) as encoder:
        encoder._network = Unreliable(encoder._network, most=7)  # type: ignore[assignment]
        encoder.extend([(seed, walk(seed)[:10]) for seed in range(5)])
        for seed, embedding in enumerate(encoder.embed(list(range(5)))):
            same(embedding, whole("flat", walk(seed)[:10]))
        encoder._network = Unreliable(encoder._network, most=-1)  # type: ignore[assignment]
        with pytest.raises(OutOfMemory):
            encoder.embed([3])
    assert "going on with" in caplog.text


def test_a_lost_device_is_left_for_the_cpu_and_nothing_else_is_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with StreamingEncoder(network("flat")) as encoder:
        encoder.extend([("walk", walk()[:15])])
        broken = Unreliable(encoder._network, DeviceLost("gone"), DeviceLost("gone"))
        encoder._network, encoder._device = broken, torch.device("cuda:0")  # type: ignore[assignment]
        encoder.extend([("walk", walk()[15:20])])
        same(encoder.embed(["walk"])[0], whole("flat", walk()[:20]))
        assert encoder.description.endswith("float32 on cpu")
        encoder._network = Unreliable(encoder._network, DeviceLost("gone"))  # type: ignore[assignment]
        with pytest.raises(DeviceLost):
            encoder.embed(["walk"])
    assert "gone; going on on the CPU" in caplog.text


def test_a_pass_that_fails_halfway_leaves_the_walks_as_they_were() -> None:
    with StreamingEncoder(network("flat")) as encoder:
        encoder.extend([("walk", walk()[:15])])
        encoder._network = Unreliable(encoder._network, RuntimeFailed("no"))  # type: ignore[assignment]
        with pytest.raises(RuntimeFailed):
            encoder.extend([("walk", walk()[15:20])])
        same(encoder.embed(["walk"])[0], whole("flat", walk()[:20]))


def test_a_folded_network_is_taken_as_well_and_left_as_it_is() -> None:
    folded: FoldedGait = fold(network("flat"))
    with StreamingEncoder(folded, precision="float16") as encoder:
        encoder.extend([("walk", walk()[:9])])
    assert {each.dtype for each in folded.parameters()} == {torch.float32}
    assert encoder.model_hash == ""
