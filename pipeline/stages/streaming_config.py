"""How the encoder remembers walks when the assembler streams."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gait.strict import StrictModel


class StreamingConfig(StrictModel):
    """What `gait.streaming.StreamingEncoder` may use.

    Attributes:
        tail: Whether an embedding counts a walk's newest silhouettes at once. true is exact, at
            the price of the tail (as much work as 15 silhouettes with the standard network, 4 with
            nano); with false they count from the walk's next embedding on (the last 27 of
            standard, 6 of nano), except in its first ones and in the track's last.
        precision: What is remembered in; a GPU computes in it too. The halves take half the
            memory, at the price of the third digit; they must first reproduce float32 to a cosine
            of 0.999, or float32 serves.
        max_memory_mb: Room for what is remembered of walks, MB. Higher follows more people at
            once (23 MB each with standard, 1.5 MB with nano) before something must be computed
            again.
        max_kept_mb: Room for the silhouettes to compute it again from, MB (2.8 KB each). When it
            is full, the walk that has been unused longest is forgotten.
    """

    tail: bool = True
    precision: Literal["float32", "float16", "bfloat16"] = "float32"
    max_memory_mb: int = Field(default=1024, ge=1)
    max_kept_mb: int = Field(default=256, ge=1)
