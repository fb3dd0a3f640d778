"""The card beside weights that ship: what they are, what they were made of, how well they do.

trackletgait-nano.safetensors      the weights
trackletgait-nano.json             this card
trackletgait-nano.md               the same for people to read
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, JsonValue, ValidationError

from gait.errors import CheckpointError
from gait.strict import StrictModel


class WeightsCard(StrictModel):
    """What a weights file is; nothing of it is needed to load the file.

    Attributes:
        format: Of this file.
        name: Of the weights.
        network: Size of the network: a name of `VARIANTS`, an ablation or a baseline.
        precision: What the weights are stored in.
        sha256: Of the weights file's bytes.
        model_hash: Of the weights; embeddings compare only if it agrees.
        data: What it was trained with, in words: recipe, seed, source.
        class_num: Training subjects.
        iterations: Steps made.
        training: The training configuration, complete with defaults.
        teacher: Who taught it besides the labels; None if nobody.
        threshold: Largest distance at which two walks are taken for one person's; None if nobody
            has measured it.
        threshold_source: How the threshold was found.
        figures: Fractions by name, under the title of what was measured.
        versions: Of what trained it.
    """

    format: str = "trackletgait-weights-1"
    name: str
    network: str
    precision: str
    sha256: str
    model_hash: str
    data: str
    class_num: int = Field(ge=1)
    iterations: int = Field(ge=0)
    training: dict[str, JsonValue]
    teacher: str | None = None
    threshold: float | None = Field(default=None, ge=0)
    threshold_source: str = ""
    figures: dict[str, dict[str, float | None]] = Field(default={})
    versions: dict[str, str] = Field(default={})


def card_path(weights: Path) -> Path:
    """Return where the card of a weights file lies, if it has one."""
    return weights.with_suffix(".json")


def read_weights_card(weights: Path) -> WeightsCard | None:
    """Return the card beside a weights file; None if there is none.

    Raises:
        CheckpointError: It is damaged or of another version.
    """
    path = card_path(weights)
    try:
        return WeightsCard.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read this card ({error.strerror})") from error
    except ValidationError as error:
        problem = error.errors()[0]
        raise CheckpointError(
            f"{path}: expected the card of {weights.name}, got a damaged one or one of another "
            f"version ({'.'.join(map(str, problem['loc']))}: {problem['msg']}); export the weights "
            "again, or remove the card"
        ) from error
