"""`trackletgait purge`: remove what is older than it may be."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.commands.privacy_options import (
    AuditOption,
    DryRunOption,
    KeyOption,
    ReceiptOption,
    carry_out,
    refuse_without_key,
    say,
)
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.live.config import LiveConfig
    from pipeline.privacy.limits import RetentionConfig

_YAML = (".yaml", ".yml")


def purge(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="CONFIG.yaml | FOLDER | GALLERY...",
            help="A configuration of `run`, galleries, folders of results or clips, sinks' files.",
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
    dry_run: DryRunOption = False,
    receipt: ReceiptOption = None,
    key: KeyOption = None,
    audit: AuditOption = None,
) -> None:
    """Remove data older than `retention` in the configuration, or --keep, allows.

    Enrolments that have expired go always; people known by a pseudonym go a day after they were
    last seen. It may run while cameras run, and as often as you like. Run it daily.
    """
    from pipeline.privacy.audit import current_user
    from pipeline.privacy.finding import configured_places, known_as, log_beside, place
    from pipeline.privacy.retention import Remover

    refuse_without_key(receipt, key)
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
        remover = Remover(places, log, current_user(), is_dry_run=dry_run)
        done = carry_out(lambda: remover.purge(retention), log, receipt, key)
    if not done.removed:
        say(f"Nothing is too old in {', '.join(each.name for each in places)}.")


def _config(paths: Sequence[str]) -> LiveConfig | None:
    from pipeline.live.config import load_kept_config

    if len(paths) > 1:
        raise ConfigError(f"purge: expected one configuration, got {', '.join(paths)}")
    return load_kept_config(Path(paths[0])) if paths else None


def _retention(config: LiveConfig | None, keep: Sequence[str]) -> RetentionConfig:
    """Return the configured times, changed by texts such as `video=7`."""
    from gait.yaml_config import apply_override, validate
    from pipeline.privacy.limits import RetentionConfig

    data: dict[str, Any] = {} if config is None else config.retention.model_dump()
    for text in keep:
        kind, equals, days = text.partition("=")
        if not equals or f"{kind}_days" not in RetentionConfig.model_fields:
            kinds = ", ".join(name.removesuffix("_days") for name in RetentionConfig.model_fields)
            raise ConfigError(f"--keep: expected one of {kinds} such as video=7, got {text!r}")
        apply_override(data, f"{kind}_days={days}")
    return validate(RetentionConfig, data, "--keep")
