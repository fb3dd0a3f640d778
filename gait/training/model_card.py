"""The card that goes with weights: what they are, what they were made of, what they are not for."""

from __future__ import annotations

from gait.training.checkpoints import MODEL_FILE, Card
from gait.training.config import OptimiserConfig


def model_card(card: Card) -> str:
    """Return a card in Markdown."""
    config = card.config
    lines = [
        f"# {card.name}, {card.iteration} iterations",
        "",
        "A network that turns a sequence of silhouettes (64 x 44, one person walking) into an "
        "embedding of 16 parts; people are compared by the mean over the parts of Euclidean "
        "distances.",
        "",
        *_table("Network", config.network.model_dump()),
        *_table(
            "Training",
            {
                "data set": config.data.dataset or "own data",
                "training subjects": card.class_num,
                "iterations": f"{card.iteration} of {config.iterations}",
                "batch": f"{config.batch.num_ids} subjects x {config.batch.per_id} sequences",
                "frames": config.sampling.model_dump(),
                "learning rate": _schedule(config.optimiser),
                "precision": config.compute.precision,
                "taught by": _teacher(card),
                "seed": config.seed,
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
        "* Figures hold for the data set above. Other cameras, clothes, crowds and silhouettes of "
        "another segmenter do worse; measure before relying on it.",
        "* It answers with a nearest neighbour even when nobody of the gallery is in the picture; "
        "choose a threshold from open-set figures (`trackletgait eval`).",
        "* Gait identifies people without their doing anything. Get their consent or another legal "
        "basis before enrolling anybody; benchmark data sets allow research use only, and so may "
        "weights made of them.",
        "",
    ]
    return "\n".join(lines)


def _teacher(card: Card) -> str:
    distillation, teacher = card.config.distillation, card.teacher
    if distillation is None or teacher is None:
        return "labels alone"
    return (
        f"labels, and {teacher.name} (`{teacher.file}`, sha256 {teacher.sha256[:12]}) by "
        f"relational distillation, weight {distillation.weight:g}"
    )


def _schedule(optimiser: OptimiserConfig) -> str:
    warmup = f", after a warm-up of {optimiser.warmup}" if optimiser.warmup else ""
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
    told = {
        key: "none" if value is None else f"{100 * value:.2f} %"
        for key, value in card.metrics.items()
    }
    return _table(f"Figures ({protocol}, float32)", dict(told))
