"""Which encoder the assembler needs: one for tracklets that stand alone, or one that remembers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from gait.errors import RuntimeFailed, RuntimeUnavailable
from pipeline.errors import ConfigError
from pipeline.stages.assemble import AssemblerConfig
from pipeline.stages.encode import RANDOM, EncoderConfig
from pipeline.weights import encoder_file

if TYPE_CHECKING:
    from gait.encoder import Encoder
    from gait.streaming import StreamingEncoder
    from gait.streaming_state import StatePrecision

logger = logging.getLogger(__name__)

_MB = 1_000_000


def streams(config: EncoderConfig, assembler: AssemblerConfig) -> bool:
    """Return whether `build_encoder` gives the streaming one, for whoever leaves that to others.

    Raises:
        CheckpointError: The weights cannot be used.
        ModelError: A bundled file is missing or damaged.
    """
    if not assembler.streams(tail_frames=0):  # whatever the network
        return False
    return assembler.mode == "streaming" or assembler.streams(_tail(_plain(config), config))


def build_encoder(config: EncoderConfig, assembler: AssemblerConfig) -> Encoder | StreamingEncoder:
    """Return the encoder for an assembler: the streaming one exactly if it shall stream.

    Raises:
        CheckpointError: The weights cannot be used.
        ConfigError: There is no such device, or too little memory is allowed.
        ModelError: A bundled file is missing or damaged.
        RuntimeFailed: The device does not answer.
    """
    if not assembler.streams(tail_frames=0):  # whatever the network
        return config.build()
    plain = _plain(config)
    tail = _tail(plain, config)
    if not assembler.streams(tail):
        return config.build()
    logger.info(
        "walks are embedded while they grow: window %d, stride %d, tail worth %.1f silhouettes",
        assembler.window, assembler.stride, tail,
    )  # fmt: skip
    return _streaming(plain, config)


def _tail(plain: Encoder, config: EncoderConfig) -> float:
    """Return what the tail of one embedding costs, in silhouettes."""
    from gait.model.folded import fold
    from gait.streaming_state import tail_frames

    return tail_frames(fold(plain.network)) if config.streaming.tail else 0.0


def _plain(config: EncoderConfig) -> Encoder:
    """Load the network without preparing a runtime for it."""
    from gait.encoder import Encoder

    if config.weights in (None, RANDOM):
        return Encoder.random(config.variant, config.seed)
    return Encoder.from_weights(encoder_file(config.weights))


def _streaming(plain: Encoder, config: EncoderConfig) -> StreamingEncoder:
    """Return what remembers walks as configured if that passes the gate, and else in float32."""
    from gait.streaming_gate import judge_streaming

    precision = config.streaming.precision
    encoder = _open(plain, config, precision)
    if precision == "float32":
        return encoder
    try:
        verdict = judge_streaming(encoder, plain.network)
        problem = "" if verdict.passed else f"{verdict.reason}, got {verdict.figures}"
    except (RuntimeFailed, RuntimeUnavailable) as error:
        problem = str(error)
    if not problem:
        return encoder
    encoder.close()
    logger.warning("encoder: %s does not serve, float32 does: %s", encoder.description, problem)
    return _open(plain, config, "float32")


def _open(plain: Encoder, config: EncoderConfig, precision: StatePrecision) -> StreamingEncoder:
    import torch

    from gait.streaming import StreamingEncoder

    if config.threads is not None:
        torch.set_num_threads(config.threads)
    chosen = config.streaming
    try:
        return StreamingEncoder(
            plain.network,
            device=config.device,
            precision=precision,
            tail=chosen.tail,
            max_memory_bytes=chosen.max_memory_mb * _MB,
            max_kept_bytes=chosen.max_kept_mb * _MB,
            description=plain.description.removesuffix(f", {plain.runtime.description}"),
            is_trained=plain.is_trained,
        )
    except ValueError as error:
        raise ConfigError(f"encoder: {error}") from error
