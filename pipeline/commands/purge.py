"""`trackletgait purge`: remove what is older than it may be."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
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
    from pipeline.privacy.limits import RetentionConfig
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
    from pipeline.privacy.finding import configured_places, known_as, log_beside, place
    from pipeline.privacy.retention import purge

    configs = [word for word in what if word.lower().endswith(_YAML)]
    names = [word for word in what if word not in configs]
    with ExitStack() as stack:
        config = _config(configs)
        configured = [] if config is None else known_as(config, out)
        log = log_beside([*configured, *names], audit)
        places = [] if config is None else list(configured_places(config, out, stack))
        places += [place(name, stack) for name in dict.fromkeys(names)]
        if not places:
            raise ConfigError(f"{out}: expected the folder this is run with: say which with --out")
        retention = _retention(config, keep or [])
        done = purge(places, retention, log=log, who=current_user(), is_dry_run=dry_run)
    console = Console(highlight=False, soft_wrap=True)
    if not done.removed:
        looked = ", ".join(each.name for each in places)
        console.print(f"Nothing is too old in {escape(looked)}.")
        return
    console.print(removal_table(done.removed, "would go" if dry_run else "removed"))
    if done.entry is not None:
        console.print(f"Recorded as entry {done.entry.number} of {escape(str(log.path))}")


def _config(paths: Sequence[str]) -> LiveConfig | None:
    from pipeline.live_config import load_live_config

    if len(paths) > 1:
        raise ConfigError(f"purge: expected one configuration, got {', '.join(paths)}")
    return load_live_config(Path(paths[0])) if paths else None


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
