"""Tracklets in, embeddings out.

encoder = Encoder.from_weights("gait3d.pt")
embeddings = encoder.encode(tracklets)        # one (256, 16) a tracklet, in order
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray

from gait.closing import Closing
from gait.errors import DeviceLost, OutOfMemory, RuntimeFailed
from gait.model.card import card_path
from gait.model.checkpoint import load_checkpoint, model_hash
from gait.model.folded import fold
from gait.model.trackletgait import VARIANTS, TrackletGait
from gait.runtimes.batching import FRAMES_A_CALL, Batch, batches
from gait.runtimes.devices import pick_device as pick_device
from gait.runtimes.runtime import Precision, Runtime, RuntimeName
from gait.runtimes.torch_runtime import TorchRuntime
from gait.silhouette import to_model_input
from gait.tracklet import Tracklet

logger = logging.getLogger(__name__)

MAX_FRAMES = 720
"""Frames of a sequence the model looks at: the first ones, as the benchmarks do (spec c.2)."""

Dtype = type[np.float32] | type[np.float64]


class Encoder(Closing):
    """Turns silhouettes into embeddings; what it answers does not depend on earlier calls.

    It runs the network folded (`gait.model.folded`), by torch unless told otherwise. When its
    runtime fails for any reason but memory, it goes on by torch and says so in the log.

    Attributes:
        is_trained: False when the weights are random and identities mean nothing.
        model_hash: SHA-256 over the weights; embeddings compare only if it agrees.
    """

    def __init__(
        self,
        model: TrackletGait,
        *,
        description: str,
        is_trained: bool,
        device: str = "cpu",
        dtype: Dtype = np.float32,
        runtime: RuntimeName | Literal["auto"] = "torch",
        precision: Precision | Literal["auto"] = "float32",
        threads: int | None = None,
        wait: bool = True,
        batch_frames: int | None = None,
    ) -> None:
        """Take over a network.

        Args:
            model: The network; moved to the CPU and to `dtype`.
            description: What it is, without runtime, precision and device.
            is_trained: Whether its weights come from training.
            device: As `pick_device` takes it.
            dtype: Of the embeddings. float64 computes in float64 by torch, whatever `runtime` and
                `precision` say: it agrees with the reference to 1e-10, several times slower.
            runtime: What runs the network; "auto" chooses by device and by what is installed.
                All but torch in float32 must first reproduce it (`gait.runtimes.choose`).
            precision: What to compute in. float32 agrees with the reference to 2e-4 (GPUs round to
                TF32 inside unless torch is told otherwise); halves are faster where the device
                computes in them, at the price of a third digit. "auto" is float32 on a CPU and
                float16 on a GPU.
            threads: Cores the runtime may use on a CPU; None leaves it to the runtime.
            wait: Whether to build a runtime before the first call. Without it torch answers until
                the runtime is ready, and embeddings change in the sixth digit then.
            batch_frames: Frames in one call; None is 30 on a CPU and 1024 on a GPU. Higher uses a
                GPU better, at the price of about 5 MB of memory a frame in float32; a CPU gains
                nothing.

        Raises:
            ValueError: `device` is not on this machine.
            RuntimeUnavailable: Nothing can run it there in `precision`.
        """
        self._device = pick_device(device)
        self._dtype = dtype
        self.is_trained = is_trained
        self.model_hash = model_hash(model)
        self._description = description
        torch_dtype = torch.float64 if dtype is np.float64 else torch.float32
        self._model = model.eval().to("cpu", torch_dtype)
        self._batch_frames = batch_frames or FRAMES_A_CALL[self._device.type]
        if dtype is np.float64:
            self._runtime: Runtime = TorchRuntime(
                fold(self._model), device=self._device, precision="float64", threads=threads
            )
        elif runtime == "torch" and precision == "float32":
            self._runtime = TorchRuntime(fold(self._model), device=self._device, threads=threads)
        else:
            from gait.runtimes.choose import choose

            self._runtime = choose(
                self._model, device=self._device, runtime=runtime, precision=precision,
                threads=threads, wait=wait,
            )  # fmt: skip

    @property
    def description(self) -> str:
        """One line for a report: network, weights, precision, runtime and device."""
        return f"{self._description}, {self._runtime.description}"

    @property
    def network(self) -> TrackletGait:
        """The network as it was trained, on the CPU and of the encoder's dtype."""
        return self._model

    @property
    def runtime(self) -> Runtime:
        """What runs the network now."""
        return self._runtime

    def close(self) -> None:
        """Give back the runtime; the encoder cannot be used afterwards."""
        self._runtime.close()

    @classmethod
    def from_weights(
        cls, path: str | Path, *, device: str = "cpu", dtype: Dtype = np.float32, **options: Any
    ) -> Self:
        """Return an encoder with the weights of an authors' `.pt` or our `.safetensors`.

        Args:
            path: The file.
            device: As `pick_device` takes it.
            dtype: Of the embeddings.
            options: As the constructor takes them: `runtime`, `precision`, `threads`, `wait`,
                `batch_frames`.

        Raises:
            CheckpointError: The file cannot be used.
            ValueError: `device` is not on this machine.
            RuntimeUnavailable: As the constructor.
        """
        loaded = load_checkpoint(path)
        card = card_path(loaded.path).with_suffix(".md")
        description = (
            f"TrackletGait {loaded.variant}, {loaded.path.name} (sha256 {loaded.sha256[:12]})"
            + (f", card {card.name}" if card.is_file() else "")
        )
        return cls(
            loaded.model, description=description, is_trained=True, device=device, dtype=dtype,
            **options,
        )  # fmt: skip

    @classmethod
    def random(
        cls,
        variant: str,
        seed: int,
        *,
        device: str = "cpu",
        dtype: Dtype = np.float32,
        **options: Any,
    ) -> Self:
        """Return an encoder nobody trained, the same one for the same seed.

        Args:
            variant: A name of `VARIANTS`.
            seed: Of the weights.
            device: As `pick_device` takes it.
            dtype: Of the embeddings.
            options: As for `from_weights`.

        Raises:
            ValueError: `variant` is none of `VARIANTS`, or there is no such device.
            RuntimeUnavailable: As the constructor.
        """
        if variant not in VARIANTS:
            raise ValueError(f"variant: expected {' or '.join(VARIANTS)}, got {variant!r}")
        model = TrackletGait.random(VARIANTS[variant], torch.Generator().manual_seed(seed))
        description = f"TrackletGait {variant}, UNTRAINED random weights (seed {seed})"
        return cls(
            model, description=description, is_trained=False, device=device, dtype=dtype, **options
        )

    def encode(self, tracklets: Sequence[Tracklet]) -> list[NDArray[np.float32]]:
        """Return the embedding of each tracklet, shape (256, 16), in order.

        Raises:
            ValueError: A tracklet has no silhouettes, or continues an earlier one.
            OutOfMemory: As `embed`.
            RuntimeFailed: As `embed`.
        """
        for tracklet in tracklets:
            if tracklet.offset:
                raise ValueError(
                    f"{tracklet.uid}: expected a tracklet by itself, got one that continues "
                    f"a walk of {tracklet.offset} silhouettes; gait.streaming.StreamingEncoder "
                    "embeds those"
                )
        embeddings = self.embed([tracklet.silhouettes for tracklet in tracklets])
        return [embedding.astype(np.float32, copy=False) for embedding in embeddings]

    def embed(self, sequences: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.floating[Any]]]:
        """Return the embedding of each sequence of silhouettes, in order.

        Which sequences share a call, `gait.runtimes.batching` says. Where the memory does not
        suffice for a call, it is made in halves.

        Args:
            sequences: Each (T, 64, 44), or (T, 64, 64) which is cut; uint8. Only the first 720
                frames are read.

        Returns:
            Each (256, 16), of the encoder's dtype.

        Raises:
            ValueError: A sequence has no frames.
            SilhouetteError: A sequence is not silhouettes.
            OutOfMemory: The memory does not suffice for one sequence.
            RuntimeFailed: Torch fails on the CPU too.
        """
        inputs = [self._prepare(index, each) for index, each in enumerate(sequences)]
        outputs: dict[int, NDArray[np.floating[Any]]] = {}
        for batch in self._batches(inputs):
            embeddings = self._run(_stacked(inputs, batch))
            outputs.update(zip(batch.indices, embeddings, strict=True))
        return [outputs[index] for index in range(len(inputs))]

    def _prepare(self, index: int, silhouettes: NDArray[np.uint8]) -> NDArray[np.floating[Any]]:
        if not len(silhouettes):
            raise ValueError(
                f"sequence {index}: expected at least one silhouette, got none; leave empty "
                "tracklets out before encoding"
            )
        if len(silhouettes) > MAX_FRAMES:
            logger.info(
                "sequence %d: the first %d of %d frames are read",
                index, MAX_FRAMES, len(silhouettes),
            )  # fmt: skip
        return to_model_input(silhouettes[:MAX_FRAMES], self._dtype)

    def _batches(self, inputs: Sequence[NDArray[np.floating[Any]]]) -> list[Batch]:
        """Return who shares a call; sequences of different sizes of picture never do."""
        takes_padding = self._runtime.takes_padding
        planned = []
        for size in dict.fromkeys(each.shape[1:] for each in inputs):
            members = [index for index, each in enumerate(inputs) if each.shape[1:] == size]
            lengths = [len(inputs[index]) for index in members]
            for batch in batches(
                lengths, takes_padding=takes_padding, most_frames=self._batch_frames
            ):
                indices = tuple(members[place] for place in batch.indices)
                planned.append(Batch(indices, batch.num_frames))
        return planned

    def _run(self, call: _Call) -> list[NDArray[np.floating[Any]]]:
        """Return the embedding of each sequence; whatever fails is tried in another way."""
        try:
            return list(self._runtime.run(*call.arguments))
        except OutOfMemory as error:
            return self._run_halves(call, error)
        except RuntimeFailed as error:
            self._replace_runtime(error)
            return [each for alone in call.alone() for each in self._run(alone)]

    def _run_halves(self, call: _Call, error: OutOfMemory) -> list[NDArray[np.floating[Any]]]:
        if len(call) == 1:
            raise OutOfMemory(
                f"encoder: {call.num_frames} frames of one sequence do not fit into the memory of "
                f"{self._device}; cut it into shorter tracklets, or use device cpu ({error})"
            ) from error
        self._batch_frames = max(1, len(call) * call.num_frames // 2)
        logger.warning(
            "encoder: %d sequences of %d frames do not fit at once; from now on at most %d frames "
            "a call (%s)", len(call), call.num_frames, self._batch_frames, error,
        )  # fmt: skip
        return [each for half in call.halves() for each in self._run(half)]

    def _replace_runtime(self, error: RuntimeFailed) -> None:
        """Go on by torch: on the same device in float32, or on the CPU if that has failed."""
        is_last = self._runtime.name == "torch" and self._device.type == "cpu"
        if is_last and self._runtime.precision in ("float32", "float64"):
            raise error
        if isinstance(error, DeviceLost) or self._runtime.name == "torch":
            self._device = torch.device("cpu")
            self._batch_frames = min(self._batch_frames, FRAMES_A_CALL["cpu"])
        logger.error(
            "encoder: %s failed; going on by torch on %s (%s)",
            self._runtime.description, self._device, error,
        )  # fmt: skip
        failed = self._runtime
        self._runtime = TorchRuntime(
            fold(self._model),
            device=self._device,
            precision="float64" if self._dtype is np.float64 else "float32",
        )
        with contextlib.suppress(RuntimeFailed):
            failed.close()


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    """Arguments of a runtime.

    Attributes:
        silhouettes_NTHW: Padded with zeros.
        lengths_N: Of the sequences, however far they are padded.
    """

    silhouettes_NTHW: NDArray[np.floating[Any]]
    lengths_N: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.lengths_N)

    @property
    def num_frames(self) -> int:
        return int(self.silhouettes_NTHW.shape[1])

    @property
    def arguments(self) -> tuple[NDArray[np.floating[Any]], NDArray[np.int64] | None]:
        is_full = bool((self.lengths_N == self.num_frames).all())
        return self.silhouettes_NTHW, None if is_full else self.lengths_N

    def halves(self) -> tuple[_Call, _Call]:
        half = len(self) // 2
        return self._part(slice(half)), self._part(slice(half, None))

    def alone(self) -> list[_Call]:
        """Return the sequences one by one and unpadded, as any runtime takes them."""
        return [
            _Call(
                self.silhouettes_NTHW[index : index + 1, :length], self.lengths_N[index : index + 1]
            )
            for index, length in enumerate(self.lengths_N.tolist())
        ]

    def _part(self, which: slice) -> _Call:
        return _Call(self.silhouettes_NTHW[which], self.lengths_N[which])


def _stacked(inputs: Sequence[NDArray[np.floating[Any]]], batch: Batch) -> _Call:
    members = [inputs[index] for index in batch.indices]
    shape = (len(members), batch.num_frames, *members[0].shape[1:])
    silhouettes = np.zeros(shape, members[0].dtype)
    for row, member in zip(silhouettes, members, strict=True):
        row[: len(member)] = member
    return _Call(silhouettes, np.array([len(member) for member in members], np.int64))
