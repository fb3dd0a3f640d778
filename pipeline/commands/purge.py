"""`trackletgait purge`: remove what is older than it may be."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.live_config import LiveConfig
    from pipeline.privacy.audit import AuditLog
    from pipeline.privacy.keys import KeyConfig
    from pipeline.privacy.limits import RetentionConfig
    from pipeline.privacy.places import Place
    from pipeline.privacy.receipt import Removed

_YAML = (".yaml", ".yml")


def purge(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="CONFIG.yaml | FOLDER | GALLERY...",
            help="A configuration of `run`, folders of results, galleries, files of sinks.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The folder that CONFIG.yaml is run with.")
    ] = Path("live-results"),
    keep: Annotated[
        list[str] | None,
        typer.Option(
            "--keep",
            metavar="KIND=DAYS",
            help="Of video, silhouettes, embeddings, sightings, pseudonyms; null keeps for good.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only say what would go.")
    ] = False,
    audit: Annotated[
        Path | None,
        typer.Option("--audit", help="The audit log; else beside what is named first."),
    ] = None,
) -> None:
    """Remove data older than `retention` in the configuration, or --keep, allows.

    Enrolments that have expired go always; people known by a pseudonym go a day after they were
    last seen. It may run while cameras run, and as often as you like. Run it daily.
    """
    from pipeline.privacy.audit import current_user
    from pipeline.privacy.retention import purge

    with ExitStack() as stack:
        config, names = _configured(what, out)
        log = log_beside(names, audit)
        places = [_configured_place(name, config, stack) for name in names]
        retention = _retention(config, keep or [])
        done = purge(places, retention, log=log, who=current_user(), is_dry_run=dry_run)
    console = Console(highlight=False, soft_wrap=True)
    if not done.removed:
        console.print(f"Nothing is too old in {', '.join(map(escape, names))}.")
        return
    console.print(removal_table(done.removed, "would go" if dry_run else "removed"))
    if done.entry is not None:
        console.print(f"Recorded as entry {done.entry.number} of {escape(str(log.path))}")


def _configured(what: Sequence[str], out: Path) -> tuple[LiveConfig | None, list[str]]:
    """Return the configuration, if one is named, and everything to look into, each once."""
    from pipeline.live_config import load_live_config

    configs = [word for word in what if word.lower().endswith(_YAML)]
    if len(configs) > 1:
        raise ConfigError(f"purge: expected one configuration, got {', '.join(configs)}")
    names = [word for word in what if word not in configs]
    if not configs:
        return None, list(dict.fromkeys(names))
    config = load_live_config(Path(configs[0]))
    return config, list(dict.fromkeys([*_places_of(config, out), *names]))


def _places_of(config: LiveConfig, out: Path) -> Iterator[str]:
    """Yield what a run of a configuration writes to, as far as it is there."""
    gallery = config.pipeline.gallery.path
    found = [gallery, str(out), *(getattr(sink, "path", None) for sink in config.sinks)]
    there = [each for each in found if each and ("://" in each or Path(each).exists())]
    if not there:
        raise ConfigError(
            f"{out}: expected the folder this configuration is run with: say which with --out"
        )
    yield from there


def _configured_place(name: str, config: LiveConfig | None, stack: ExitStack) -> Place:
    """Return where data are; the configured gallery may want a password or a key."""
    from pipeline.privacy.galleries import GalleryPlace

    if config is None or name != config.pipeline.gallery.path:
        return place(name, stack)
    return GalleryPlace(stack.enter_context(config.pipeline.gallery.open_store(model_hash=None)))


def log_beside(names: Sequence[str], audit: Path | None) -> AuditLog:
    """Return the audit log that is given, or the one beside what is named first.

    Raises:
        ConfigError: Everything is on a server, which has no place beside it.
    """
    from pipeline.privacy.audit import AuditLog, audit_path

    files = [name for name in names if "://" not in name]
    if audit is None and not files:
        raise ConfigError("--audit: expected the audit log of a gallery that is no file here")
    return AuditLog(audit or audit_path(Path(files[0])))


def place(name: str, stack: ExitStack, key: KeyConfig | None = None) -> Place:
    """Return where data are, by what somebody called it; `stack` closes it.

    Raises:
        ConfigError: There is nothing of that name.
        PipelineError: It is something else.
    """
    from pipeline.gallery.store import GalleryStore
    from pipeline.privacy.cipher import Cipher
    from pipeline.privacy.folders import DataFolder
    from pipeline.privacy.galleries import GalleryPlace
    from pipeline.privacy.places import FolderPlace, LinesPlace, RowsPlace

    path = Path(name)
    if "://" not in name:
        if not path.exists():
            raise ConfigError(f"{name}: expected a folder, a gallery or a file of events: no such")
        if path.is_dir():
            return FolderPlace(DataFolder.at(path))
        if path.suffix == ".jsonl":
            return LinesPlace(path)
        if is_of_sink(path):
            return RowsPlace(path)
    store = stack.enter_context(GalleryStore(name, model_hash=None))
    if key is not None and store.is_sealed():  # a key would seal one that is not
        cipher = Cipher.load(key)
        store = stack.enter_context(GalleryStore(name, model_hash=None, cipher=cipher))
    return GalleryPlace(store)


def is_of_sink(path: Path) -> bool:
    """Return whether a file is a database of the `sqlite` sink."""
    from pipeline.sinks.sqlite_sink import APPLICATION_ID

    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            return bool(database.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID)
    except sqlite3.Error:
        return False  # the gallery says in words what it is instead


def _retention(config: LiveConfig | None, keep: Sequence[str]) -> RetentionConfig:
    """Return the configured times, changed by texts such as `video=7`."""
    from gait.yaml_config import apply_override, validate
    from pipeline.privacy.limits import RetentionConfig

    data: dict[str, Any] = {} if config is None else config.retention.model_dump()
    for text in keep:
        kind, equals, days = text.partition("=")
        apply_override(data, f"{kind}_days{equals}{days}")
    return validate(RetentionConfig, data, "--keep")


def removal_table(removed: Sequence[Removed], verb: str) -> Table:
    """Return a line a kind and place; `verb` heads the counts."""
    table = Table("kind", "where", verb, "oldest (UTC)", "newest (UTC)")
    table.columns[2].justify = "right"
    for each in removed:
        moments = (_moment(each.oldest_unix_s), _moment(each.newest_unix_s))
        table.add_row(each.kind, escape(each.where), str(each.count), *moments)
    return table


def _moment(unix_s: float | None) -> str:
    return "" if unix_s is None else f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d %H:%M}"
