"""People from one gallery to another, and galleries from one model to another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from gait.encoder import Encoder
from gait.tracklet import Tracklet
from pipeline.errors import GalleryError
from pipeline.gallery.exchange import export_people, read_people
from pipeline.gallery.exemplar import Enrolment, Exemplar
from pipeline.gallery.reembed import re_embed
from pipeline.gallery.store import GalleryStore

MakeExemplar = Callable[..., Exemplar]
CONSENT = Enrolment(basis="consent", purpose="door", by="Kim", expires_s=9000.0)


def open_store(path: Path | None, model_hash: str | None = "a" * 64, **more) -> GalleryStore:
    more = {"keep_silhouettes": True, "clock": lambda: 1000.0, **more}
    return GalleryStore(path, model_hash=model_hash, **more)


@pytest.fixture
def store(exemplar: MakeExemplar):
    with open_store(None) as store:
        store.found(exemplar(1, at=0.1))
        walks = [exemplar(2, at=0.5), replace(exemplar(3, at=0.7), silhouettes=None)]
        store.enrol("Anna", walks, CONSENT)
        yield store


@pytest.fixture
def path(store: GalleryStore, tmp_path: Path) -> Path:
    assert export_people(store, tmp_path / "people.tgg") == 2
    return tmp_path / "people.tgg"


def test_people_arrive_in_another_gallery_with_all_that_is_kept(
    store: GalleryStore, path: Path
) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_people(path).model_hash == "a" * 64
    with open_store(None) as other:
        assert [identity.label for identity in other.receive(read_people(path))] == [
            "person-001",
            "Anna",
        ]
        assert other.people() == store.people()
        for mine, theirs in zip(store.kept(whole=True), other.kept(whole=True), strict=True):
            for name in ("tracklet_uid", "stream", "times_s", "quality", "num_silhouettes"):
                assert getattr(mine, name) == getattr(theirs, name)
            np.testing.assert_array_equal(mine.embedding, theirs.embedding)
            assert mine.has_silhouettes == theirs.has_silhouettes
            if mine.has_silhouettes:
                np.testing.assert_array_equal(mine.silhouettes, theirs.silhouettes)


def test_only_those_who_are_meant_are_exported(store: GalleryStore, tmp_path: Path) -> None:
    assert export_people(store, tmp_path / "anna.tgg", [store.find("Anna")]) == 1
    with open_store(None) as other:
        assert [each.label for each in other.receive(read_people(tmp_path / "anna.tgg"))] == [
            "Anna"
        ]


def test_what_may_be_recorded_of_somebody_may_be_exported(
    tmp_path: Path, exemplar: MakeExemplar
) -> None:
    with open_store(None) as store, open_store(None) as other:
        store.enrol("Anna", [exemplar(1)], replace(CONSENT, basis="x" * 2000))
        export_people(store, tmp_path / "anna.tgg")
        other.receive(read_people(tmp_path / "anna.tgg"))
        assert other.people() == store.people()
        store.found(replace(exemplar(2), stream="two\nlines"))
        with pytest.raises(GalleryError, match=r"cannot be exported: stream: .*pattern"):
            export_people(store, tmp_path / "anna.tgg")


def test_an_import_that_cannot_be_whole_changes_nothing(path: Path, exemplar: MakeExemplar) -> None:
    with open_store(None) as other:
        other.enrol("anna", [exemplar(9)], CONSENT)
        with pytest.raises(GalleryError, match="anna is enrolled already"):
            other.receive(read_people(path))
        assert len(other.people()) == 1
    with open_store(None, clock=lambda: 10_000.0) as late:
        with pytest.raises(GalleryError, match="a moment in the future"):
            late.receive(read_people(path))
        with pytest.raises(GalleryError, match=r"with names .*not switched on"):
            read_people(path, with_names=False)
        assert len(late.people()) == 0


def test_people_of_another_model_are_refused_with_the_way_out(path: Path) -> None:
    with (
        open_store(None, "b" * 64) as other,
        pytest.raises(GalleryError, match=r"aaaaaaaaaaaa.*bbbbbbbbbbbb.*gallery re-embed"),
    ):
        other.receive(read_people(path))


@pytest.mark.parametrize(
    "content", [b"", b"not at all", b"\xff" * 100, b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "]
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "people.tgg"
    path.write_bytes(content)
    with open_store(None) as other, pytest.raises(GalleryError, match="none or damaged"):
        other.receive(read_people(path))


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with open_store(None) as other, pytest.raises(GalleryError, match=r"none\.tgg: .*No such file"):
        other.receive(read_people(tmp_path / "none.tgg"))


def test_a_file_cut_or_changed_anywhere_is_refused_or_harmless(path: Path) -> None:
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for cut in rng.integers(0, len(whole), 20):
        path.write_bytes(whole[: int(cut)])
        with open_store(None) as other, pytest.raises(GalleryError):
            other.receive(read_people(path))
    header = int.from_bytes(whole[:8], "little") + 8
    for place in rng.integers(0, header, 60):
        damaged = bytearray(whole)
        damaged[int(place)] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        with open_store(None) as other:
            try:
                other.receive(read_people(path))
            except GalleryError:
                assert len(other.people()) == 0


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        (b'"dtype":"F16"', b'"dtype":"BF16"', "damaged"),  # by us, where numpy learnt of bfloat16
        (rb"\"expires_s\":9000.0", rb"\"expires_s\":1e300", "expires_s: .* less than"),
        (rb"\"enrolled_s\":1000.0", rb"\"enrolled_s\":-1e99", "enrolled_s: .* greater than"),
        (rb"\"quality\":1.0", rb"\"quality\":NaN", "none or damaged"),
    ],
)
def test_a_header_that_cannot_be_is_refused(path: Path, was: bytes, now: bytes, said: str) -> None:
    whole = path.read_bytes()
    size = int.from_bytes(whole[:8], "little")
    header = whole[8 : 8 + size]
    assert was in header
    changed = header.replace(was, now)
    path.write_bytes(len(changed).to_bytes(8, "little") + changed + whole[8 + size :])
    with pytest.raises(GalleryError, match=said):
        read_people(path)


@pytest.mark.parametrize(
    ("embeddings", "said"),
    [
        (np.full((3, 256, 16), np.nan, np.float16), "finite"),
        (np.zeros((2, 256, 16), np.float16), "damaged"),
        (np.zeros((3, 256, 16), np.float32), "damaged"),
        (np.zeros((3, 16, 256), np.float16), "damaged"),
    ],
)
def test_embeddings_that_cannot_be_are_refused(path: Path, embeddings, said: str) -> None:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as tensors:
        metadata = tensors.metadata()
        silhouettes = tensors.get_tensor("silhouettes")
    save_file({"embeddings": embeddings, "silhouettes": silhouettes}, path, metadata)
    with open_store(None) as other:
        with pytest.raises(GalleryError, match=said):
            other.receive(read_people(path))
        assert len(other.people()) == 0


@pytest.fixture(scope="module")
def encoders():
    with Encoder.random("nano", 0) as first, Encoder.random("nano", 1) as second:
        yield first, second


def walk(tracklet: Callable[..., Tracklet], track_id: int) -> Tracklet:
    silhouettes = np.random.default_rng(track_id).integers(0, 2, (30, 64, 44), np.uint8) * 255
    return replace(tracklet(track_id), silhouettes=silhouettes)


def test_a_gallery_of_another_model_serves_once_it_is_embedded_again(
    tmp_path: Path, tracklet: Callable[..., Tracklet], encoders
) -> None:
    first, second = encoders
    walks = [walk(tracklet, n) for n in range(3)]
    path = tmp_path / "people.gallery"
    with open_store(path, first.model_hash) as store:
        for each, embedding in zip(walks, first.encode(walks), strict=True):
            store.found(Exemplar.of(each, embedding))
    with pytest.raises(GalleryError, match="gallery re-embed"):
        open_store(path, second.model_hash)
    with open_store(path, None) as store, open_store(path, first.model_hash) as running:
        revision = running.revision()
        done = re_embed(store, second)
        assert (done.num_embedded, done.num_dropped) == (3, 0)
        with pytest.raises(GalleryError, match="this run uses"):  # it may not go on unaware
            running.changes_since(revision)
        with pytest.raises(GalleryError, match="this run uses"):
            running.found(Exemplar.of(walks[0], first.encode(walks[:1])[0]))
    with open_store(path, second.model_hash) as store:
        for stored, expected in zip(store.exemplars(), second.encode(walks), strict=True):
            np.testing.assert_allclose(stored.embedding, expected, rtol=2e-3, atol=1e-3)
        with pytest.raises(GalleryError, match="made it already"):
            re_embed(store, second)


def test_exemplars_without_silhouettes_are_dropped_only_when_asked_to(
    tracklet: Callable[..., Tracklet], encoders, tmp_path: Path
) -> None:
    first, second = encoders
    path = tmp_path / "people.gallery"
    one, other = (
        Exemplar.of(walk(tracklet, n), first.encode([walk(tracklet, n)])[0]) for n in (1, 2)
    )
    with open_store(path, first.model_hash) as store:
        anna, _ = store.found(one)
        store.add(anna, replace(other, silhouettes=None))
        lonely, _ = store.found(replace(other, silhouettes=None))
    with open_store(path, None) as store:
        with pytest.raises(GalleryError, match="of all 3 exemplars, 2 have none"):
            re_embed(store, second)
        with pytest.raises(GalleryError, match="got none of person-002"):
            re_embed(store, second, drop_others=True)
        assert store.model_hash() == first.model_hash
        store.forget(lonely)
        assert re_embed(store, second, drop_others=True).num_dropped == 1


def test_a_gallery_that_changes_while_it_is_embedded_stays_as_it_is(
    tmp_path: Path, tracklet: Callable[..., Tracklet], encoders
) -> None:
    first, second = encoders
    path = tmp_path / "people.gallery"
    with open_store(path, first.model_hash) as store:
        exemplar = Exemplar.of(walk(tracklet, 1), first.encode([walk(tracklet, 1)])[0])
        identity, _ = store.found(exemplar)
        revision = store.revision()
        store.add(identity, replace(exemplar, tracklet_uid="meanwhile"))
        with pytest.raises(GalleryError, match="changed it meanwhile"):
            store.embed_again({}, model_hash=second.model_hash, revision=revision)
        assert store.people()[0].num_exemplars == 2
