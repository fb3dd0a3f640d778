"""What the commands of `trackletgait gallery` share: their options, and what these mean."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from pipeline.commands.gallery_tables import Answer
from pipeline.errors import ConfigError, GalleryError, PipelineError

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig
    from pipeline.file_run import Progress
    from pipeline.gallery.enrolment import Walks
    from pipeline.gallery.exemplar import Enrolment
    from pipeline.gallery.store import GalleryStore
    from pipeline.privacy.audit import AuditLog
    from pipeline.privacy.audit_entry import Detail

_DAY_S = 86400.0

GalleryOption = Annotated[
    str | None,
    typer.Option(
        "--gallery",
        "-g",
        metavar="GALLERY",
        help="File, or postgresql+psycopg://user:${PASSWORD}@host/database; else gallery.path.",
    ),
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="YAML file; it holds only what differs.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one key, e.g. gallery.mode=named."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
WhoArgument = Annotated[str, typer.Argument(help="Name or pseudonym.", show_default=False)]
ByOption = Annotated[
    str | None, typer.Option("--who", help="Who does this, for the records; else your account.")
]
AuditOption = Annotated[
    Path | None, typer.Option("--audit", help="The audit log; else beside the gallery.")
]
BasisOption = Annotated[
    str | None,
    typer.Option("--basis", help="What allows it, e.g. 'consent of 2026-03-01, folder 12'."),
]
PurposeOption = Annotated[
    str | None, typer.Option("--purpose", help="What the person is to be recognised for.")
]
ExpiresOption = Annotated[
    str | None,
    typer.Option("--expires", help="When to forget the person: a day (2027-03-01) or 90d."),
]


def settings_of(
    gallery: str | None, config: Path | None, overrides: Sequence[str] | None
) -> PipelineConfig:
    """Return the configuration, with the gallery that is meant.

    Raises:
        ConfigError: It cannot be used, or no gallery is meant.
    """
    from pipeline.config import load_config

    settings = load_config(config, overrides or ())
    path = gallery or settings.gallery.path
    if path is None:
        raise ConfigError("--gallery: expected a gallery, here or as gallery.path in --config")
    chosen = settings.gallery.model_copy(update={"path": path})
    return settings.model_copy(update={"gallery": chosen})


def refuse_anonymous(settings: PipelineConfig) -> None:
    """Refuse names where they are not switched on.

    Raises:
        ConfigError: They are not.
    """
    if settings.gallery.mode != "named":
        raise ConfigError(
            "gallery.mode: expected named, got anonymous: names are switched on in the "
            "configuration (gallery.mode: named), or with --set gallery.mode=named"
        )


def refuse_in_vain(settings: PipelineConfig, name: str, *, is_known: bool) -> None:
    """Say what would be refused in the end before a video is read."""
    from pipeline.gallery.records import UnknownPerson
    from pipeline.gallery.writing import checked_name

    refuse_anonymous(settings)
    checked_name(name)
    if not is_known and not settings.gallery.is_there():
        return  # a server says so in the end
    with settings.gallery.open_store(model_hash=None) as store:
        try:
            identity = store.find(name)
        except UnknownPerson:
            if is_known:
                raise
            return
    if not is_known:
        raise GalleryError(
            f"{store.name}: {identity.label} is enrolled already; choose another name, or add "
            f"walks to that person with --add"
        )


def enrolment_of(
    basis: str | None, purpose: str | None, expires: str | None, who: str | None
) -> Enrolment:
    """Return what is recorded of an enrolment.

    Raises:
        ConfigError: There is no basis, or no such day.
    """
    from pipeline.gallery.exemplar import Enrolment

    if not (basis or "").strip():
        raise ConfigError(
            "--basis: expected what allows this enrolment, e.g. 'consent of 2026-03-01, folder 12'"
        )
    return Enrolment(basis or "", purpose, by_whom(who), _moment(expires))


def _moment(text: str | None) -> float | None:
    """Return the Unix time that a day, or a number of days from now, stands for."""
    if text is None:
        return None
    try:
        if text.endswith("d"):
            return time.time() + float(text[:-1]) * _DAY_S
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"--expires: expected a day such as 2027-03-01, or 90d, got {text!r}"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def find_walks(inputs: Sequence[str], settings: PipelineConfig) -> Walks:
    """Return who walks on videos, or in tracklets of a results folder."""
    from pipeline.gallery.enrolment import TRACKLET_SUFFIX, WalkRun, walks_of_tracklets

    tracklets = [Path(each) for each in inputs if each.lower().endswith(TRACKLET_SUFFIX)]
    if tracklets and len(tracklets) < len(inputs):
        raise ConfigError(f"expected either videos or {TRACKLET_SUFFIX} tracklets, got both")
    with _status("Loading models ...") as tell:
        if tracklets:
            return walks_of_tracklets(tracklets, settings)
        run = WalkRun(inputs, settings, tell)
        found = run.walks()
    for problem in found.problems:
        Console(stderr=True).print(f"[bold red]Problem:[/] {escape(problem)}", soft_wrap=True)
    return found


@contextmanager
def _status(text: str) -> Iterator[Callable[[Progress], None]]:
    with Console(stderr=True).status(text) as status:

        def tell(progress: Progress) -> None:
            of = f" of {progress.total}" if progress.total else ""
            tracks = f"{progress.tracks} tracks"
            status.update(f"{escape(progress.stream)}: frame {progress.frames}{of}, {tracks}")

        yield tell


def answers_of(store: GalleryStore, found: Walks, count: int) -> list[Answer]:
    """Return who of a gallery the people on a video are nearest to."""
    from pipeline.gallery.known import Known

    known = Known(store)
    answers = []
    for walk in (each for each in found.walks if each.tracklets):
        nearest: dict[int, float] = {}
        for neighbours in known.matrix.search_owners(walk.embeddings, k=count):
            for each in neighbours:
                nearest[each.owner] = min(each.distance, nearest.get(each.owner, float("inf")))
        ordered = sorted(nearest.items(), key=lambda pair: pair[1])[:count]
        answers.append(
            Answer(walk, tuple((known.identities[owner], far) for owner, far in ordered))
        )
    return answers


def log_of(settings: PipelineConfig, audit: Path | None) -> AuditLog:
    """Return the audit log.

    Raises:
        ConfigError: It has no place of its own, since the gallery is on a server.
    """
    from pipeline.gallery.database import is_url
    from pipeline.privacy.audit import AuditLog, audit_path

    path = settings.gallery.path
    assert path is not None
    if audit is None and is_url(path):
        raise ConfigError("--audit: expected the audit log of a gallery that is no file here")
    return AuditLog(audit or audit_path(Path(path)))


@dataclass(slots=True)
class Note:
    """What the audit log is told of an action; what is only known afterwards is put in then.

    Attributes:
        subject: To whom or what.
        details: What else is worth knowing.
    """

    subject: str
    details: dict[str, Detail] = field(default_factory=dict)


@contextmanager
def recorded(log: AuditLog, who: str | None, action: str, note: Note) -> Iterator[None]:
    """Record that something is about to be done to a gallery, and how it went.

    Killed in between, it shows in the log that it began.

    Raises:
        PrivacyError: The log cannot be written; then nothing is done.
    """

    def tell(how: str) -> None:
        log.record(action + how, who=by_whom(who), subject=note.subject, details=note.details)

    tell("-begun")
    try:
        yield
    except PipelineError:
        tell("-failed")
        raise
    tell("")


def by_whom(who: str | None) -> str:
    """Return who does something, as they said or as the machine knows them."""
    from pipeline.privacy.audit import current_user

    return who or current_user()


def say(text: str) -> None:
    """Print a line of text as it is."""
    Console(highlight=False, soft_wrap=True).print(escape(text))
