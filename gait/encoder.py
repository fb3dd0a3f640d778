"""Tracklets in, embeddings out.

encoder = Encoder.from_weights("gait3d.pt")
embeddings = encoder.encode(tracklets)        # one (256, 16) a tracklet, in order
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from gait.model.card import card_path
from gait.model.checkpoint import load_checkpoint, model_hash
from gait.model.trackletgait import VARIANTS, TrackletGait
from gait.silhouette import to_model_input
from gait.tracklet import Tracklet

logger = logging.getLogger(__name__)

MAX_FRAMES = 720
"""Frames of a sequence the model looks at: the first ones, as the benchmarks do (spec c.2)."""

Dtype = type[np.float32] | type[np.float64]


class Encoder:
    """Turns silhouettes into embeddings; holds no state between calls.

    Attributes:
        description: One line for a report: network, weights, dtype and device.
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
        batch_frames: int = 30,
    ) -> None:
        """Take over a network.

        Args:
            model: The network; moved to `device` and `dtype`.
            description: What it is, without dtype and device.
            is_trained: Whether its weights come from training.
            device: As `pick_device` takes it.
            dtype: What to compute in. float64 agrees with the reference to 1e-10, several times
                slower; float32 to 2e-4 (on a CPU; GPUs round to TF32 inside unless
                torch is told otherwise).
            batch_frames: Frames in one forward pass. Higher uses a GPU better, at the price of
                about 5 MB of memory a frame; a CPU gains nothing.

        Raises:
            ValueError: `device` is not on this machine.
        """
        self._device = pick_device(device)
        self._dtype = dtype
        self._batch_frames = batch_frames
        self.is_trained = is_trained
        self.model_hash = model_hash(model)
        self.description = f"{description}, {np.dtype(dtype)} on {self._device}"
        torch_dtype = torch.float64 if dtype is np.float64 else torch.float32
        self._model = model.eval().to(self._device, torch_dtype)
        self._model.use_channels_last()

    @classmethod
    def from_weights(
        cls, path: str | Path, *, device: str = "cpu", dtype: Dtype = np.float32
    ) -> Self:
        """Return an encoder with the weights of an authors' `.pt` or our `.safetensors`.

        Raises:
            CheckpointError: The file cannot be used.
            ValueError: `device` is not on this machine.
        """
        loaded = load_checkpoint(path)
        card = card_path(loaded.path).with_suffix(".md")
        description = (
            f"TrackletGait {loaded.variant}, {loaded.path.name} (sha256 {loaded.sha256[:12]})"
            + (f", card {card.name}" if card.is_file() else "")
        )
        return cls(
            loaded.model, description=description, is_trained=True, device=device, dtype=dtype
        )

    @classmethod
    def random(
        cls, variant: str, seed: int, *, device: str = "cpu", dtype: Dtype = np.float32
    ) -> Self:
        """Return an encoder nobody trained, the same one for the same seed.

        Raises:
            ValueError: `variant` is none of `VARIANTS`, or there is no such device.
        """
        if variant not in VARIANTS:
            raise ValueError(f"variant: expected {' or '.join(VARIANTS)}, got {variant!r}")
        model = TrackletGait.random(VARIANTS[variant], torch.Generator().manual_seed(seed))
        description = f"TrackletGait {variant}, UNTRAINED random weights (seed {seed})"
        return cls(model, description=description, is_trained=False, device=device, dtype=dtype)

    def encode(self, tracklets: Sequence[Tracklet]) -> list[NDArray[np.float32]]:
        """Return the embedding of each tracklet, shape (256, 16), in order.

        Raises:
            ValueError: A tracklet has no silhouettes.
        """
        embeddings = self.embed([tracklet.silhouettes for tracklet in tracklets])
        return [embedding.astype(np.float32, copy=False) for embedding in embeddings]

    def embed(self, sequences: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.floating[Any]]]:
        """Return the embedding of each sequence of silhouettes, in order.

        Sequences of one length share a forward pass; others never do, for the network pools over
        every frame it is given.

        Args:
            sequences: Each (T, 64, 44), or (T, 64, 64) which is cut; uint8. Only the first 720
                frames are read.

        Returns:
            Each (256, 16), of the encoder's dtype.

        Raises:
            ValueError: A sequence has no frames.
            SilhouetteError: A sequence is not silhouettes.
        """
        inputs = [self._prepare(index, each) for index, each in enumerate(sequences)]
        outputs: dict[int, NDArray[np.floating[Any]]] = {}
        for indices in _batches([each.shape for each in inputs], self._batch_frames):
            batch = self._forward(np.stack([inputs[index] for index in indices]))
            outputs.update(zip(indices, batch, strict=True))
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

    @torch.inference_mode()
    def _forward(self, silhouettes: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Return (N, 256, 16) of (N, T, 64, 44)."""
        embeddings: NDArray[np.floating[Any]] = (
            self._model(torch.from_numpy(silhouettes).to(self._device)).cpu().numpy()
        )
        return embeddings


def pick_device(name: str) -> torch.device:
    """Return the device of a name: "cpu", "cuda", "cuda:N", or "auto" (a GPU if there is one).

    Raises:
        ValueError: The name is no such device, or the machine has none.
    """
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda:0" if num_gpus else "cpu")
    known = {"cpu", "cuda"} | {f"cuda:{index}" for index in range(num_gpus)}
    if name not in known or (name == "cuda" and not num_gpus):
        raise ValueError(
            f"device: expected auto, cpu, cuda or cuda:N with N below the {num_gpus} CUDA "
            f"devices of this machine, got {name!r}"
        )
    return torch.device(name)


def _batches(shapes: Sequence[tuple[int, ...]], batch_frames: int) -> list[list[int]]:
    """Return indices grouped by equal shape, at most `batch_frames` frames in a group."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, shape in enumerate(shapes):
        groups.setdefault(shape, []).append(index)
    batches = []
    for shape, indices in groups.items():
        size = max(1, batch_frames // shape[0])
        batches += [indices[start : start + size] for start in range(0, len(indices), size)]
    return batches
