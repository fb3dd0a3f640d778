"""A gallery for another model, from the silhouettes it kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import GalleryError
from pipeline.gallery.exemplar import rounded_embedding
from pipeline.gallery.records import Kept
from pipeline.gallery.store import GalleryStore
from pipeline.values import Embedding

if TYPE_CHECKING:
    from gait.encoder import Encoder

_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class ReEmbedded:
    """What became of a gallery's exemplars.

    Attributes:
        num_embedded: Those that another model describes now.
        num_dropped: Those of which no silhouettes were kept.
    """

    num_embedded: int
    num_dropped: int


def re_embed(
    store: GalleryStore,
    encoder: Encoder,
    *,
    drop_others: bool = False,
    on_progress: Callable[[int], None] = lambda done: None,
) -> ReEmbedded:
    """Replace all embeddings by those an encoder makes of the kept silhouettes.

    Until the end the gallery is as it was, and may be used; then it changes at once.

    Args:
        store: Opened whatever made it (`model_hash=None`).
        encoder: The new model.
        drop_others: Remove exemplars without silhouettes instead of refusing.
        on_progress: Called with how many are done.

    Raises:
        GalleryError: The encoder made it already; exemplars lack silhouettes; somebody would be
            left without any; somebody changed the gallery meanwhile. Nothing was changed.
    """
    if store.model_hash() == encoder.model_hash:
        raise GalleryError(f"{store.name}: these weights made it already; nothing is to be done")
    revision = store.revision()
    everything = list(store.kept())
    lacking = [kept for kept in everything if not kept.has_silhouettes]
    if lacking and not drop_others:
        raise GalleryError(
            f"{store.name}: expected silhouettes of all {len(everything)} exemplars, "
            f"{len(lacking)} have none (gallery.keep_silhouettes was off): drop those "
            f"(--drop-others), or enrol again into a new gallery"
        )
    embeddings: dict[int, Embedding] = {}
    pictured = (kept for kept in store.kept(whole=True) if kept.silhouettes is not None)
    while batch := list(islice(pictured, _AT_ONCE)):
        embeddings |= _embedded(batch, encoder)
        on_progress(len(embeddings))
    store.embed_again(embeddings, model_hash=encoder.model_hash, revision=revision)
    return ReEmbedded(len(embeddings), len(everything) - len(embeddings))


def _embedded(batch: list[Kept], encoder: Encoder) -> dict[int, Embedding]:
    embeddings = encoder.embed([kept.silhouettes for kept in batch if kept.silhouettes is not None])
    return {
        kept.id: rounded_embedding(embedding.astype(np.float32), f"exemplar {kept.id}")
        for kept, embedding in zip(batch, embeddings, strict=True)
    }
