"""The card that goes with weights: what they are, what they were made of, what they are not for."""

from __future__ import annotations

from collections.abc import Mapping

from gait.model.card import WeightsCard
from gait.training.checkpoints import MODEL_FILE, Card
from gait.training.config import OptimiserConfig, TrainingConfig

_WHAT = (
    "A network that turns a sequence of silhouettes (64 x 44, one person walking) into an "
    "embedding of 16 parts; people are compared by the mean over the parts of Euclidean distances."
)
_LIMITS = (
    "* Figures hold for the data named above. Other cameras, clothes, crowds and silhouettes of "
    "another segmenter do worse; measure before relying on it.",
    "* It answers with a nearest neighbour even when nobody of the gallery is in the picture; "
    "choose a threshold from open-set figures (`trackletgait eval`).",
    "* Gait identifies people without their doing anything. Get their consent or another legal "
    "basis before enrolling anybody.",
)


def model_card(card: Card) -> str:
    """Return a card in Markdown."""
    config = card.config
    lines = [
        f"# {card.name}, {card.iteration} iterations",
        "",
        _WHAT,
        "",
        *_table("Network", config.network.model_dump()),
        *_table(
            "Training",
            {
                "data set": config.data.dataset or "own data",
                "training subjects": card.class_num,
                "iterations": f"{card.iteration} of {config.iterations}",
                "taught by": told_teacher(card) or "labels alone",
                **_settings(config),
            },
        ),
        *_metrics(card),
        "## Files",
        "",
        f"* SHA-256 of `{MODEL_FILE}`: `{card.sha256[MODEL_FILE]}`",
        f"* model hash (embeddings compare only if it agrees): `{card.model_hash}`",
        f"* written by {', '.join(f'{name} {each}' for name, each in card.versions.items())}",
        "",
        "## Limits",
        "",
        *_LIMITS,
        "* Benchmark data sets allow research use only, and so may weights made of them.",
        "",
    ]
    return "\n".join(lines)


def weights_card_text(card: WeightsCard, file: str) -> str:
    """Return the card of weights that ship, in Markdown; `file` is the weights' name."""
    config = TrainingConfig.model_validate(card.training)
    lines = [
        f"# {card.name}",
        "",
        _WHAT,
        "",
        *_table("Network", config.network.model_dump()),
        *_table(
            "Training",
            {
                "data": card.data,
                "training subjects": card.class_num,
                "iterations": f"{card.iterations} of {config.iterations}",
                "taught by": card.teacher or "labels alone",
                **_settings(config),
            },
        ),
        *(line for title, each in card.figures.items() for line in _table(title, _percent(each))),
        *([] if card.figures else ["## Figures", "", "Not evaluated.", ""]),
        "## Threshold",
        "",
        _threshold(card),
        "",
        "## Files",
        "",
        f"* SHA-256 of `{file}`: `{card.sha256}`",
        f"* stored in {card.precision}, computed in float32",
        f"* model hash (embeddings compare only if it agrees): `{card.model_hash}`",
        f"* trained by {', '.join(f'{name} {each}' for name, each in card.versions.items())}",
        "",
        "## Intended use and limits",
        "",
        "* Meant for telling apart and finding again people who walk through fixed cameras, with a "
        "person who looks at the evidence before anything is decided. Not meant for decisions "
        "about anybody without that, nor for identifying people without a legal basis.",
        *_LIMITS,
        "* Nobody has measured differences between groups of people (age, sex, disability).",
        "",
    ]
    return "\n".join(lines)


def _settings(config: TrainingConfig) -> dict[str, object]:
    return {
        "batch": f"{config.batch.num_ids} subjects x {config.batch.per_id} sequences",
        "frames": config.sampling.model_dump(),
        "learning rate": _schedule(config.optimiser),
        "precision": config.compute.precision,
        "seed": config.seed,
    }


def _threshold(card: WeightsCard) -> str:
    if card.threshold is None:
        return "None was measured: `gallery.threshold` must be given."
    source = f", {card.threshold_source}" if card.threshold_source else ""
    return f"Two walks are taken for one person's up to a distance of {card.threshold:g}{source}."


def told_teacher(card: Card) -> str | None:
    """Return who taught the network of a checkpoint besides the labels, in words."""
    distillation, teacher = card.config.distillation, card.teacher
    if distillation is None or teacher is None:
        return None
    return (
        f"labels, and {teacher.name} (`{teacher.file}`, sha256 {teacher.sha256[:12]}) by "
        f"relational distillation, weight {distillation.weight:g}"
    )


def _schedule(optimiser: OptimiserConfig) -> str:
    warmup = f", after a warm-up of {optimiser.warmup}" if optimiser.warmup else ""
    warmup += f"; {optimiser.kind}, weight decay {optimiser.weight_decay:g}"
    if optimiser.schedule == "cosine":
        return f"{optimiser.rate:g}, half a cosine to 0{warmup}"
    return f"{optimiser.rate:g}, times {optimiser.gamma:g} after {optimiser.milestones}{warmup}"


def _table(title: str, values: dict[str, object]) -> list[str]:
    rows = [f"| {key} | {value} |" for key, value in values.items()]
    return [f"## {title}", "", "| | |", "|---|---|", *rows, ""]


def _metrics(card: Card) -> list[str]:
    if not card.metrics:
        return ["## Figures", "", "Not evaluated.", ""]
    protocol = card.config.evaluation.protocol or "unknown protocol"
    return _table(f"Figures ({protocol}, float32)", _percent(card.metrics))


def _percent(metrics: Mapping[str, float | None]) -> dict[str, object]:
    return {
        key: "none" if value is None else f"{100 * value:.2f} %" for key, value in metrics.items()
    }
