from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gait import encoder as encoder_module
from gait.encoder import Encoder, pick_device
from gait.errors import (
    CheckpointError,
    DeviceLost,
    OutOfMemory,
    RuntimeFailed,
    SilhouetteError,
)
from gait.model.folded import fold
from gait.model.trackletgait import TrackletGait
from gait.runtimes.runtime import Precision, RuntimeName
from gait.runtimes.torch_runtime import TorchRuntime
from gait.tracklet import Tracklet


@pytest.fixture(scope="module")
def small() -> Encoder:
    return Encoder.random("small", seed=0)


def walk(length: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (length, 64, 44), np.uint8)


def tracklet(silhouettes: NDArray[np.uint8]) -> Tracklet:
    t = np.arange(len(silhouettes))
    return Tracklet("cam", 1, silhouettes, t.astype(np.int64), t / 10, (0.0, len(t) / 10))


@pytest.mark.golden
@pytest.mark.parametrize("variant", ["standard", "small"])
def test_tracklets_get_the_embeddings_of_the_release(
    variant: str,
    golden_model: Callable[[str, torch.dtype], TrackletGait],
    golden_dir: Path,
    golden_rules: ModuleType,
) -> None:
    model = golden_model(variant, torch.float32)
    encoder = Encoder(model, description="golden", is_trained=False)
    (result,) = encoder.encode([tracklet(golden_rules.silhouettes(1, 7)[0] * np.uint8(255))])
    expected = np.load(golden_dir / "model.npz")[f"{variant}_eval_1x7_f32"][0]
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=2e-4)


def test_mixed_lengths_come_back_in_order_as_if_encoded_alone(small: Encoder) -> None:
    lengths = [3, 2, 3, 1, 2, 3]
    walks = [walk(length, seed) for seed, length in enumerate(lengths)]
    together = small.encode([tracklet(each) for each in walks])
    for each, result in zip(walks, together, strict=True):
        (alone,) = small.embed([each])
        assert result.shape == (256, 16)
        np.testing.assert_allclose(result, alone, rtol=1e-4, atol=1e-5)


class Counting:
    """Torch, as a runtime that takes padding or not and fails when it is told to."""

    name: RuntimeName = "tensorrt"
    precision: Precision = "float16"
    description = "float16 by a test"

    def __init__(
        self,
        encoder: Encoder,
        *,
        takes_padding: bool = False,
        most_frames: int | None = None,
        error: Exception | None = None,
    ) -> None:
        self._torch = TorchRuntime(fold(encoder.network))
        self.takes_padding = takes_padding
        self._most_frames = most_frames
        self._error = error
        self.shapes: list[tuple[int, ...]] = []
        self.is_closed = False

    def run(
        self, silhouettes_NTHW: NDArray[Any], lengths_N: NDArray[np.int64] | None
    ) -> NDArray[Any]:
        shape = silhouettes_NTHW.shape[:2]
        self.shapes.append(shape)
        if self._error is not None:
            raise self._error
        if self._most_frames is not None and shape[0] * shape[1] > self._most_frames:
            raise OutOfMemory("CUDA out of memory")
        return self._torch.run(silhouettes_NTHW, lengths_N)

    def close(self) -> None:
        self.is_closed = True


def served_by(
    runtime_of: Callable[[Encoder], Counting], **options: Any
) -> tuple[Encoder, Counting]:
    encoder = Encoder.random("nano", seed=0, **options)
    runtime = runtime_of(encoder)
    encoder._runtime = runtime
    return encoder, runtime


def test_batches_hold_one_length_and_a_bounded_number_of_frames() -> None:
    encoder, runtime = served_by(Counting, batch_frames=6)
    encoder.embed([walk(length) for length in (2, 2, 7, 2, 2)])
    assert runtime.shapes == [(3, 2), (1, 2), (1, 7)]


def test_padded_batches_give_the_embeddings_of_single_runs() -> None:
    encoder, runtime = served_by(lambda e: Counting(e, takes_padding=True), batch_frames=40)
    walks = [walk(length, length) for length in (1, 5, 3, 8, 2, 7, 9, 4)]
    together = encoder.embed(walks)
    assert runtime.shapes == [(4, 4), (3, 8), (1, 9)]
    for each, result in zip(walks, together, strict=True):
        (alone,) = Encoder.random("nano", seed=0).embed([each])
        np.testing.assert_allclose(result, alone, rtol=1e-4, atol=1e-5)


def test_a_batch_that_does_not_fit_is_made_in_halves(caplog: pytest.LogCaptureFixture) -> None:
    encoder, runtime = served_by(lambda e: Counting(e, most_frames=8), batch_frames=100)
    walks = [walk(4, seed) for seed in range(5)]
    results = encoder.embed(walks)
    assert runtime.shapes == [(5, 4), (2, 4), (3, 4), (1, 4), (2, 4)]
    for each, result in zip(walks, results, strict=True):
        (alone,) = Encoder.random("nano", seed=0).embed([each])
        np.testing.assert_allclose(result, alone, rtol=1e-4, atol=1e-5)
    assert "5 sequences of 4 frames do not fit at once" in caplog.text
    runtime.shapes.clear()
    encoder.embed(walks)
    assert (5, 4) not in runtime.shapes  # it has learnt


def test_a_sequence_that_does_not_fit_alone_is_an_error_with_its_length() -> None:
    encoder, _ = served_by(lambda e: Counting(e, most_frames=8))
    with pytest.raises(OutOfMemory, match=r"9 frames of one sequence do not fit.*shorter"):
        encoder.embed([walk(9)])


@pytest.mark.parametrize(
    "error",
    [DeviceLost("CUDA error: unspecified launch failure"), RuntimeFailed("NaN or infinite")],
)
@pytest.mark.parametrize("takes_padding", [False, True])
def test_a_runtime_that_fails_is_replaced_and_the_call_answered(
    error: RuntimeFailed, takes_padding: bool, caplog: pytest.LogCaptureFixture
) -> None:
    walks = [walk(length, length) for length in (3, 2, 4, 30)]
    encoder, runtime = served_by(
        lambda e: Counting(e, takes_padding=takes_padding, error=error), batch_frames=100
    )
    results = encoder.embed(walks)
    assert len(runtime.shapes) == 1
    assert runtime.is_closed
    assert encoder.runtime.name == "torch"
    assert encoder.description.endswith(" on cpu")
    for each, result in zip(walks, results, strict=True):
        (alone,) = Encoder.random("nano", seed=0).embed([each])
        np.testing.assert_allclose(result, alone, rtol=1e-4, atol=1e-5)
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert str(error) in record.getMessage()


def test_torch_failing_on_the_cpu_is_an_error() -> None:
    encoder = Encoder.random("nano", seed=0)
    encoder.close()
    with pytest.raises(RuntimeFailed, match="closed"):
        encoder.embed([walk(2)])


def test_an_encoder_is_closed_at_the_end_of_its_block() -> None:
    encoder, runtime = served_by(Counting)
    with encoder:
        encoder.embed([walk(1)])
        assert not runtime.is_closed
    assert runtime.is_closed


def test_ten_thousand_frames_are_the_first_720(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gait.encoder")
    encoder, runtime = served_by(lambda e: Counting(e, most_frames=719))
    with pytest.raises(OutOfMemory, match="720 frames of one sequence"):
        encoder.embed([np.zeros((10_000, 64, 44), np.uint8)])
    assert runtime.shapes == [(1, 720)]
    assert "the first 720 of 10000 frames" in caplog.text


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_a_gpu_gives_the_embeddings_of_the_cpu_in_every_precision(precision: str) -> None:
    walks = [walk(length, length) for length in (1, 5, 30, 31, 64, 7)]
    expected = Encoder.random("small", seed=0).embed(walks)
    with Encoder.random(
        "small", seed=0, device="cuda:0", runtime="auto", precision=precision
    ) as encoder:
        for _ in range(3):
            for found, wanted in zip(encoder.embed(walks), expected, strict=True):
                norms = np.linalg.norm(found, axis=0) * np.linalg.norm(wanted, axis=0)
                assert ((found * wanted).sum(axis=0) / norms).min() > 0.999


def test_square_silhouettes_are_cut_on_the_way_in(small: Encoder) -> None:
    square = np.random.default_rng(0).integers(0, 256, (2, 64, 64), np.uint8)
    first, second = small.embed([square, square[:, :, 10:54]])
    np.testing.assert_array_equal(first, second)


def test_every_frame_counts_up_to_the_limit_and_none_beyond(
    small: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder_module, "MAX_FRAMES", 4)
    long, shortened, shorter = small.embed([walk(6), walk(6)[:4], walk(6)[:3]])
    np.testing.assert_allclose(long, shortened, rtol=1e-4, atol=1e-5)
    assert not np.allclose(long, shorter, atol=1e-3)


def test_no_tracklets_are_no_embeddings(small: Encoder) -> None:
    assert small.encode([]) == []


def test_a_tracklet_without_silhouettes_is_refused_by_its_place(small: Encoder) -> None:
    with pytest.raises(ValueError, match="sequence 1: expected at least one"):
        small.encode([tracklet(walk(2)), tracklet(walk(0))])


def test_arrays_that_are_no_silhouettes_are_refused(small: Encoder) -> None:
    with pytest.raises(SilhouetteError):
        small.embed([np.zeros((2, 44, 64), np.uint8)])


def test_float64_computes_in_float64_and_tracklets_still_get_float32(small: Encoder) -> None:
    exact = Encoder.random("small", seed=0, dtype=np.float64)
    (precise,), (coarse,) = exact.embed([walk(2)]), small.embed([walk(2)])
    assert precise.dtype == np.float64
    assert exact.encode([tracklet(walk(2))])[0].dtype == np.float32
    np.testing.assert_allclose(coarse, precise, rtol=1e-4, atol=2e-4)


def test_an_untrained_encoder_says_so_and_is_named_by_its_seed(small: Encoder) -> None:
    assert not small.is_trained
    assert "UNTRAINED" in small.description
    assert small.model_hash == Encoder.random("small", seed=0, dtype=np.float64).model_hash
    assert small.model_hash != Encoder.random("small", seed=1).model_hash
    with pytest.raises(ValueError, match="standard or small"):
        Encoder.random("large", seed=0)


def test_weights_from_a_file_are_used_and_named(
    golden_weights: Callable[[str], dict[str, torch.Tensor]],
    golden_model: Callable[[str, torch.dtype], TrackletGait],
    tmp_path: Path,
) -> None:
    path = tmp_path / "gait3d-120000.pt"
    torch.save({"model": golden_weights("small")}, path)
    encoder = Encoder.from_weights(path)
    assert encoder.is_trained
    assert "small" in encoder.description
    assert "gait3d-120000.pt" in encoder.description
    model = golden_model("small", torch.float32)
    direct = Encoder(model, description="same", is_trained=True)
    assert encoder.model_hash == direct.model_hash
    np.testing.assert_array_equal(encoder.embed([walk(2)])[0], direct.embed([walk(2)])[0])


def test_missing_weights_are_an_error_and_not_random_ones(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        Encoder.from_weights(tmp_path / "none.pt")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "", "mps", "cuda:-1"])
def test_a_device_this_machine_lacks_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="device: expected auto, cpu"):
        pick_device(name)


def test_auto_always_finds_a_device() -> None:
    assert pick_device("auto").type in ("cpu", "cuda")
    assert pick_device("cpu") == torch.device("cpu")
