"""Which places hold data about people, by what somebody called them or configured."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from pipeline.errors import ConfigError, PrivacyError
from pipeline.gallery.store import GalleryStore
from pipeline.live.config import LiveConfig
from pipeline.privacy.audit import AuditLog, audit_path
from pipeline.privacy.cipher import Cipher
from pipeline.privacy.folders import ClipsFolder, DataFolder
from pipeline.privacy.galleries import GalleryPlace
from pipeline.privacy.job import PurgeJob
from pipeline.privacy.keys import KeyConfig
from pipeline.privacy.places import LinesPlace, Place, RowsPlace
from pipeline.privacy.retention import Remover
from pipeline.recording.shelf import LOCK
from pipeline.sinks.live_config import JsonlSinkConfig, SqliteSinkConfig
from pipeline.sinks.sqlite_sink import APPLICATION_ID
from pipeline.sources.inputs import did_you_mean

_EXPECTED = "expected a folder of results or clips, a gallery, or a file of a sink"


def place(name: str, stack: ExitStack, key: KeyConfig | None = None) -> Place:
    """Return where data are, by what somebody called it; `stack` closes it.

    Args:
        name: A folder of results, a gallery's file or address, a sink's file.
        stack: Closes what is opened.
        key: Opens what a gallery has sealed; one that is not sealed stays so.

    Raises:
        ConfigError: There is nothing of that name.
        PipelineError: It is something else.
    """
    path = Path(name)
    if "://" not in name:
        if not path.exists():
            raise ConfigError(f"{name}: {_EXPECTED}: no such thing there{did_you_mean(path)}")
        if path.is_dir():
            return ClipsFolder(path) if (path / LOCK).is_file() else DataFolder.at(path)
        if path.suffix == ".jsonl":
            return LinesPlace(path)
        if not _is_database(path):
            raise ConfigError(f"{name}: {_EXPECTED}, got another file")
        if _is_of_sink(path):
            return RowsPlace(path)
    store = stack.enter_context(GalleryStore(name, model_hash=None))
    if key is not None and store.is_sealed():
        cipher = Cipher.load(key)
        store = stack.enter_context(GalleryStore(name, model_hash=None, cipher=cipher))
    return GalleryPlace(store)


def configured_places(config: LiveConfig, out: Path, stack: ExitStack) -> Iterator[Place]:
    """Yield what a run of a configuration writes to, as far as it is there.

    Args:
        config: The configuration.
        out: The folder it is run with.
        stack: Closes what is opened.

    Raises:
        PipelineError: Something there is something else, or cannot be opened.
    """
    gallery = config.pipeline.gallery
    if gallery.path is not None and ("://" in gallery.path or Path(gallery.path).exists()):
        yield GalleryPlace(stack.enter_context(gallery.open_store(model_hash=None)))
    yield from _written_places(config, out)


def live_purge(config: LiveConfig, out: Path, opened: Sequence[Place]) -> PurgeJob:
    """Return the job that purges while a live run runs; the caller closes it.

    Args:
        config: Of the run.
        out: Its folder, which is there.
        opened: What only the run can purge since it has it open, and keeps open for longer.
    """
    places = [*opened, *_written_places(config, out)]
    log = log_beside(known_as(config, out), None)
    return PurgeJob(Remover(places, log, "live run"), config.retention)


def known_as(config: LiveConfig, out: Path) -> list[str]:
    """Return the names of what a run writes to, that beside which its audit log is first."""
    gallery = config.pipeline.gallery.path
    return [str(out)] if gallery is None else [gallery, str(out)]


def log_beside(names: Sequence[str], audit: Path | None) -> AuditLog:
    """Return the audit log that is given, or the one beside what is named first.

    Raises:
        ConfigError: Everything is on a server, which has no place beside it.
    """
    files = [name for name in names if "://" not in name]
    if audit is None and not files:
        raise ConfigError("--audit: expected the audit log of a gallery that is no file here")
    return AuditLog(audit or audit_path(Path(files[0])))


def _written_places(config: LiveConfig, out: Path) -> Iterator[Place]:
    if out.is_dir():
        yield (results := DataFolder.at(out))
        clips = None if config.recording is None else ClipsFolder(out / config.recording.folder)
        if clips not in (None, results.clips):
            yield clips
    for sink in config.sinks:
        if isinstance(sink, JsonlSinkConfig):
            yield LinesPlace(Path(sink.path))
        elif isinstance(sink, SqliteSinkConfig):
            yield RowsPlace(Path(sink.path))


def _is_database(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(16) in (b"SQLite format 3\0", b"")  # an empty one says what it lacks
    except OSError as error:
        raise PrivacyError(f"{path}: cannot be read: {error.strerror}") from error


def _is_of_sink(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            return bool(database.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID)
    except sqlite3.Error:
        return False  # the gallery says in words what it is instead
