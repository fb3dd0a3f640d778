"""A checkpoint made ready to ship: the weights alone, in half precision, and their card."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from gait.data.atomic import write_atomically
from gait.errors import ConfigError
from gait.model.card import WeightsCard, card_path
from gait.model.checkpoint import load_checkpoint, model_hash, save_weights
from gait.training.checkpoints import Card, load_trained, read_card
from gait.training.config import TrainingConfig
from gait.training.model_card import told_teacher, weights_card_text

_PATHS = (("data", "path"), ("data", "partition"), (None, "start"), ("distillation", "teacher"))


@dataclass(frozen=True, slots=True)
class Told:
    """What no checkpoint knows of itself.

    Attributes:
        data: What it was trained with, in words; None takes its file name.
        threshold: Largest distance at which two walks are one person's; None if not measured.
        threshold_source: How it was found.
        figures: Fractions by name, under the title of what was measured.
    """

    data: str | None = None
    threshold: float | None = None
    threshold_source: str = ""
    figures: Mapping[str, Mapping[str, float | None]] | None = None


def ship(checkpoint: Path, out: Path, told: Told, *, half: bool = True) -> WeightsCard:
    """Write weights for inference, and their card as JSON and Markdown beside them.

    The same checkpoint makes the same bytes, so a card may be written again with more figures.

    Args:
        checkpoint: Folder of a checkpoint.
        out: A `.safetensors` file.
        told: The rest of the card.
        half: Store weights in float16.

    Raises:
        CheckpointError: The checkpoint cannot be used, or the files cannot be written.
        ConfigError: `out` is no `.safetensors` file, or the threshold no distance.
    """
    if out.suffix != ".safetensors":
        raise ConfigError(f"{out}: expected a name that ends in .safetensors")
    if told.threshold is not None and not 0 <= told.threshold < math.inf:
        raise ConfigError(f"threshold: expected a distance, 0 or more, got {told.threshold}")
    card = read_card(checkpoint)
    save_weights(load_trained(checkpoint, card), out, half=half)
    shipped = _card(card, out, told, half=half)
    write_atomically(card_path(out), shipped.model_dump_json(indent=1).encode() + b"\n")
    write_atomically(out.with_suffix(".md"), weights_card_text(shipped, out.name).encode())
    return shipped


def _card(card: Card, out: Path, told: Told, *, half: bool) -> WeightsCard:
    stored = load_checkpoint(out)
    protocol = card.config.evaluation.protocol
    own = {f"{protocol}, during training": card.metrics} if card.metrics else {}
    return WeightsCard(
        name=out.stem,
        network=stored.variant,
        precision="float16" if half else "float32",
        sha256=stored.sha256,
        model_hash=model_hash(stored.model),
        data=told.data or Path(card.config.data.path).name,
        class_num=card.class_num,
        iterations=card.iteration,
        training=_without_folders(card.config),
        teacher=told_teacher(card),
        threshold=told.threshold,
        threshold_source=told.threshold_source,
        figures={**own, **{title: dict(each) for title, each in (told.figures or {}).items()}},
        versions=card.versions,
    )


def _without_folders(config: TrainingConfig) -> dict[str, JsonValue]:
    """Return the configuration with file names for paths: folders tell of the machine it ran on."""
    dumped: dict[str, JsonValue] = config.model_dump(mode="json")
    for block, key in _PATHS:
        place = dumped if block is None else dumped[block]
        if isinstance(place, dict) and isinstance(path := place[key], str):
            place[key] = Path(path).name
    return dumped


def read_figures(paths: Sequence[Path]) -> dict[str, dict[str, float | None]]:
    """Return the figures of evaluations: JSON with `metrics` (names to fractions) and `title`.

    Raises:
        ConfigError: A file is no such JSON.
    """
    found = {}
    for path in paths:
        try:
            content = json.loads(path.read_bytes())
            metrics = {
                str(name): None if value is None else float(value)
                for name, value in content["metrics"].items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{path}: expected the evaluation.json of `trackletgait eval`, or JSON with "
                f"`title` and `metrics` of names and fractions ({type(error).__name__}: {error})"
            ) from error
        found[str(content.get("title", path.stem))] = metrics
    return found
