"""What the commands of `trackletgait gallery` share: their options, and what these mean."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer
from rich.markup import escape

from pipeline.commands.console import Console
from pipeline.errors import ConfigError, GalleryError

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig
    from pipeline.file_run import Progress
    from pipeline.gallery.enrolment import Walks
    from pipeline.gallery.exemplar import Enrolment
    from pipeline.gallery.store import GalleryStore
    from pipeline.privacy.audit import AuditLog
    from pipeline.privacy.audit_entry import Detail

_DAY_S = 86400.0

WhoArgument = Annotated[str, typer.Argument(help="Name or pseudonym.", show_default=False)]
WalksArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="VIDEO|TRACKLET.npz...",
        help="Videos, or tracklets of a results folder.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@dataclass(frozen=True, slots=True)
class Where:
    """Options: which gallery is meant."""

    gallery: Annotated[
        str | None,
        typer.Option(
            "--gallery",
            "-g",
            metavar="GALLERY",
            help="File, or postgresql+psycopg://user:${PASSWORD}@host/database; else gallery.path.",
        ),
    ] = None
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="YAML file; it holds only what differs.")
    ] = None
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one key, e.g. gallery.mode=named."),
    ] = None

    def settings(self) -> PipelineConfig:
        """Return the configuration, with the gallery that is meant.

        Raises:
            ConfigError: It cannot be used, or no gallery is meant.
        """
        from pipeline.config import load_config

        settings = load_config(self.config, self.set_ or ())
        path = self.gallery or settings.gallery.path
        if path is None:
            raise ConfigError("--gallery: expected a gallery, here or as gallery.path in --config")
        chosen = settings.gallery.model_copy(update={"path": path})
        return settings.model_copy(update={"gallery": chosen})

    def open(self) -> GalleryStore:
        """Return the gallery, to be looked after, whatever made it; the caller closes it."""
        return self.settings().gallery.open_store(model_hash=None)


@dataclass(frozen=True, slots=True)
class Desk(Where):
    """Options: which gallery is meant, who does something to it, and where that is recorded."""

    who: Annotated[
        str | None, typer.Option("--who", help="Who does this, for the records; else your account.")
    ] = None
    audit: Annotated[
        Path | None, typer.Option("--audit", help="The audit log; else beside the gallery.")
    ] = None

    def sit_down(self) -> tuple[PipelineConfig, AuditLog]:
        """Return the configuration and the audit log.

        Raises:
            ConfigError: As for `settings`, or the log has no place of its own, since the gallery
                is on a server.
        """
        from pipeline.gallery.database import is_url
        from pipeline.privacy.audit import AuditLog, audit_path

        settings = self.settings()
        path = settings.gallery.path
        assert path is not None
        if self.audit is None and is_url(path):
            raise ConfigError("--audit: expected the audit log of a gallery that is no file here")
        return settings, AuditLog(self.audit or audit_path(Path(path)))

    @property
    def by(self) -> str:
        """Who does something, as they said or as the machine knows them."""
        from pipeline.privacy.audit import current_user

        return self.who or current_user()

    @contextmanager
    def recorded(self, log: AuditLog, action: str, note: Note) -> Iterator[None]:
        """Record that something is about to be done to a gallery, and how it went.

        Killed in between, it shows in the log that it began.

        Raises:
            PrivacyError: The log cannot be written; then nothing is done.
        """

        def tell(how: str) -> None:
            log.record(action + how, who=self.by, subject=note.subject, details=note.details)

        tell("-begun")
        try:
            yield
        except Exception:
            tell("-failed")
            raise
        tell("")


@dataclass(slots=True)
class Note:
    """What the audit log is told of an action; what is only known afterwards is put in then.

    Attributes:
        subject: To whom or what.
        details: What else is worth knowing.
    """

    subject: str
    details: dict[str, Detail] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Consent:
    """Options: what is recorded of an enrolment."""

    basis: Annotated[
        str | None,
        typer.Option("--basis", help="What allows it, e.g. 'consent of 2026-03-01, folder 12'."),
    ] = None
    purpose: Annotated[
        str | None, typer.Option("--purpose", help="What the person is to be recognised for.")
    ] = None
    expires: Annotated[
        str | None,
        typer.Option("--expires", help="When to forget the person: a day (2027-03-01) or 90d."),
    ] = None

    def enrolment(self, by: str) -> Enrolment:
        """Return what is to be recorded.

        Raises:
            ConfigError: There is no basis, or no such day.
            GalleryError: It could not be recorded.
        """
        from pipeline.gallery.exemplar import Enrolment
        from pipeline.gallery.writing import checked_enrolment

        if not (self.basis or "").strip():
            raise ConfigError(
                "--basis: expected what allows this enrolment, e.g. 'consent of 2026-03-01, "
                "folder 12'"
            )
        given = Enrolment(self.basis or "", self.purpose, by, _moment(self.expires))
        return checked_enrolment(given, now_s=time.time())

    def refuse(self, where: str) -> None:
        """Refuse what would not be recorded.

        Args:
            where: When nothing is, in words.

        Raises:
            ConfigError: Something is given.
        """
        if given := [f"--{name}" for name in self.__slots__ if getattr(self, name) is not None]:
            raise ConfigError(f"{', '.join(given)}: nothing is recorded {where}: leave it out")


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take dataclasses of options: each field of one becomes an option."""
    own = inspect.signature(command, eval_str=True).parameters.values()
    groups: dict[str, Any] = {
        each.name: each.annotation for each in own if is_dataclass(each.annotation)
    }
    hints = {name: get_type_hints(group, include_extras=True) for name, group in groups.items()}

    @functools.wraps(command)
    def run(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{option: given.pop(option) for option in hints[name]})
        command(**given)

    parameters = [each for each in own if each.name not in groups]
    parameters += [
        inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)
        for fields in hints.values()
        for option, hint in fields.items()
    ]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


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
        Console(stderr=True).problem(problem, "Problem")
    return found


@contextmanager
def _status(text: str) -> Iterator[Callable[[Progress], None]]:
    with Console(stderr=True).status(text) as status:

        def tell(progress: Progress) -> None:
            of = f" of {progress.total}" if progress.total else ""
            tracks = f"{progress.tracks} tracks"
            status.update(f"{escape(progress.stream)}: frame {progress.frames}{of}, {tracks}")

        yield tell
