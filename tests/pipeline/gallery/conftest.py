"""Walks to put into galleries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from gait.tracklet import Box, Tracklet
from pipeline.gallery.exemplar import Exemplar
from pipeline.gallery.gallery import Gallery
from pipeline.values import Embedding
from tests.pipeline.gallery.matching import open_gallery
from tests.servers.postgres import PASSWORD, PostgresServer, postgres_programs


def make_tracklet(
    track_id: int = 1,
    start_s: float = 0.0,
    *,
    stream: str = "door",
    seconds: float = 3.0,
    num: int = 30,
    seen_s: tuple[float, float] | None = None,
    quality: float = 1.0,
    reasons: tuple[tuple[str, int], ...] = (),
    companions: tuple[int, ...] = (),
    is_last: bool = False,
    offset: int = 0,
    boxes: tuple[Box, Box] | None = None,
) -> Tracklet:
    """Return a tracklet of `num` silhouettes at 10 frames a second, seen from start to end."""
    first = round(start_s * 10)
    indices = np.arange(first, first + num, dtype=np.int64)
    return Tracklet(
        stream=stream,
        track_id=track_id,
        silhouettes=np.zeros((num, 64, 44), dtype=np.uint8),
        frame_indices=indices,
        times_s=indices / 10,
        seen_s=seen_s or (start_s, start_s + seconds),
        quality=quality if num else 0.0,
        reasons=reasons,
        companions=companions,
        is_last=is_last,
        offset=offset,
        boxes=boxes,
    )


def make_embedding(at: float, noise: float = 0.0, seed: int = 0) -> Embedding:
    """Return an embedding whose distance to that of another `at` is 16 x the difference."""
    rng = np.random.default_rng(seed)
    embedding = np.full((256, 16), at) + noise * rng.standard_normal((256, 16))
    return embedding.astype(np.float32)


@pytest.fixture
def tracklet() -> Callable[..., Tracklet]:
    return make_tracklet


@pytest.fixture
def embedding() -> Callable[..., Embedding]:
    return make_embedding


@pytest.fixture
def exemplar() -> Callable[..., Exemplar]:
    def make(track_id: int = 1, at: float = 0.0, **more: float) -> Exemplar:
        return Exemplar.of(make_tracklet(track_id, **more), make_embedding(at))

    return make


@pytest.fixture
def gallery() -> Iterator[Gallery]:
    with open_gallery() as gallery:
        yield gallery


@pytest.fixture
def path_of(tmp_path: Path) -> Path:
    return tmp_path / "people.gallery"


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    programs = postgres_programs()
    if programs is None:
        pytest.skip("needs PostgreSQL (Debian: apt-get install postgresql)")
    server = PostgresServer(programs)
    yield server
    server.close()


@pytest.fixture
def database(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a new, empty database."""
    monkeypatch.setenv("GALLERY_PASSWORD", PASSWORD)
    return postgres.new_database()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where a new gallery may be: a file, or a database of a real server."""
    if request.param == "sqlite":
        return tmp_path / "people.gallery"
    return str(request.getfixturevalue("database"))
