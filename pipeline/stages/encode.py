"""The encoder as the pipeline configures it; the work is done in `gait.encoder`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from gait.model.card import WeightsCard, read_weights_card
from gait.runtimes.runtime import Precision, RuntimeName
from gait.strict import StrictModel
from pipeline.errors import ConfigError, ModelError
from pipeline.stages.streaming_config import StreamingConfig
from pipeline.weights import DEFAULT_ENCODER, encoder_file, sha256_of

if TYPE_CHECKING:
    from gait.encoder import Encoder

RANDOM = "random"

UNTRAINED_THRESHOLDS = {"nano": 0.0293, "small": 0.0178, "standard": 0.0241}
"""Distances at which the random networks of seed 0 err equally often both ways on the sample clip
(35 to 45 % each: they are no use beyond showing the road)."""


class EncoderConfig(StrictModel):
    """Which network turns tracklets into embeddings.

    Attributes:
        weights: A bundled network by name ("trackletgait-nano"), or a file: ours (.safetensors)
            or an authors' checkpoint (.pt); the variant is read off it. "random" or null runs a
            network with fixed random weights: it shows the road, it does not recognise people.
        variant: Size of the random network.
        seed: Seed of the random network.
        device: "auto", "cpu" or "cuda:N".
        runtime: What runs the network. "auto" takes on a CPU onnxruntime, else torch; on a GPU
            tensorrt, else torch compiled, else onnxruntime. A name asks that one first; the others
            follow. Nothing serves before it has reproduced torch in float32 on this machine.
        precision: What the network computes in. "auto" is float32 on a CPU and float16 on a GPU.
            Halves are faster where the device computes in them, and int8 is faster still, at the
            price of digits: of cosines to float32 of 0.999 at the least.
        threads: Cores one embedding may use on the CPU; None leaves it to the runtime.
        wait: Whether to begin only when the runtime is built, which takes seconds to minutes the
            first time on a machine. Without it torch serves meanwhile, in float32.
        streaming: How walks are remembered when the assembler streams; torch runs the network then.
    """

    weights: str | None = DEFAULT_ENCODER
    variant: Literal["standard", "small", "nano"] = "small"
    seed: int = 0
    device: str = "auto"
    runtime: RuntimeName | Literal["auto"] = "auto"
    precision: Precision | Literal["auto"] = "auto"
    threads: int | None = Field(default=None, ge=1)
    wait: bool = False
    streaming: StreamingConfig = StreamingConfig()

    @property
    def threshold(self) -> float | None:
        """The distance that separates people, None when nobody has measured it.

        Raises:
            CheckpointError: The weights' card is damaged.
            ModelError: A bundled file is missing or damaged, or the card is of another file.
        """
        if self.weights in (None, RANDOM):
            return UNTRAINED_THRESHOLDS[self.variant]
        card = read_card(self.weights)
        return None if card is None else card.threshold

    def build(self) -> Encoder:
        """Load the weights, or draw random ones.

        Raises:
            CheckpointError: The weights cannot be used.
            ConfigError: There is no such device.
            ModelError: A bundled file is missing or damaged.
        """
        from gait.encoder import Encoder

        try:
            if self.weights in (None, RANDOM):
                return Encoder.random(self.variant, self.seed, **self._options())
            return Encoder.from_weights(encoder_file(self.weights), **self._options())
        except ValueError as error:
            raise ConfigError(f"encoder: {error}") from error

    def _options(self) -> dict[str, Any]:
        return {
            "device": self.device,
            "runtime": self.runtime,
            "precision": self.precision,
            "threads": self.threads,
            "wait": self.wait,
        }


def read_card(weights: str) -> WeightsCard | None:
    """Return the card of an encoder given by bundled name or by path; None without one.

    Raises:
        CheckpointError: It is damaged.
        ModelError: A bundled file is missing or damaged, or the card is of another file.
    """
    path = encoder_file(weights)
    card = read_weights_card(path)
    if card is not None and card.sha256 != sha256_of(path):
        raise ModelError(
            f"model {weights}: the card {path.stem}.json is of other weights (sha256 "
            f"{card.sha256[:12]}...), so its threshold does not hold; export the weights again "
            "with their card, or remove it"
        )
    return card
