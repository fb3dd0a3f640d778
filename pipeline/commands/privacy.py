"""`trackletgait privacy`: the site's key, receipts, and all that is stored about one person."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.commands.gallery_options import WhoArgument
from pipeline.commands.privacy_options import (
    AuditOption,
    DryRunOption,
    KeyOption,
    ReceiptOption,
    carry_out,
    key_config,
    key_if_any,
    print_removed,
    refuse_without_key,
    say,
)
from pipeline.errors import ConfigError, PipelineError, PrivacyError

if TYPE_CHECKING:
    from pipeline.gallery.exemplar import Identity
    from pipeline.gallery.store import GalleryStore
    from pipeline.privacy.access import Sources
    from pipeline.privacy.audit import AuditLog
    from pipeline.privacy.labels import Labels
    from pipeline.privacy.places import Place

app = typer.Typer(
    no_args_is_help=True,
    help="The site's key, receipts of what was removed, and all that is stored about one person.",
)

_Where = Annotated[
    list[str],
    typer.Argument(
        help="Galleries, folders of results or clips, files of sinks.", show_default=False
    ),
]


AlsoOption = Annotated[
    list[str] | None,
    typer.Option("--also", help="Another name that they had, which no audit log tells."),
]

OfOption = Annotated[
    str | None,
    typer.Option(
        "--of",
        metavar="UID",
        help="The gallery that gave the pseudonym, as sightings say; for one that is no more.",
    ),
]


@app.command()
def key(
    path: Annotated[Path, typer.Argument(help="The file to make.", show_default=False)],
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Put a new key before those that are there.")
    ] = False,
) -> None:
    """Make the site's key, which seals what galleries hold, gives pseudonyms and signs receipts.

    Without it nobody can read what it sealed: keep a copy elsewhere, but not with copies of the
    gallery.
    """
    from pipeline.privacy.keys import make_key_file

    num_keys = make_key_file(path, rotate=rotate)
    older = "; the older ones in it still open what they sealed" if num_keys > 1 else ""
    say(f"A new key is in {path}{older}. Keep a copy elsewhere.")


@app.command()
def public_key(key: KeyOption = None) -> None:
    """Print what receipts are checked with; publish it."""
    from pipeline.privacy.receipt import Signer

    typer.echo(Signer.load(key_config(key)).public_key)


@app.command()
def verify_receipt(
    path: Annotated[Path, typer.Argument(help="The receipt.", show_default=False)],
    public_key: Annotated[
        list[str] | None,
        typer.Option("--public-key", help="The site's, as `privacy public-key` printed it."),
    ] = None,
    audit: Annotated[
        Path | None, typer.Option("--audit", help="The site's audit log, where it is at hand.")
    ] = None,
) -> None:
    """Say whether a receipt is as the site signed it."""
    from pipeline.privacy.audit import AuditLog
    from pipeline.privacy.receipt import Receipt, verify_receipt

    try:
        receipt = Receipt.parse(path.read_text(encoding="utf-8"))
    except PrivacyError as error:
        raise PrivacyError(f"{path}: {error}") from error
    except OSError as error:
        raise PrivacyError(f"{path}: the receipt cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PrivacyError(f"{path}: expected a receipt, got what is no text") from error
    log = None if audit is None else AuditLog(audit)
    verify_receipt(receipt, public_keys=tuple(public_key or ()), log=log)
    print_removed(receipt.removed)
    signer = "the site's key" if public_key else f"the key {receipt.public_key}"
    say(f"As it was signed with {signer}: {receipt.action} of {receipt.subject}.")
    if not public_key:
        say("Anybody may have made that key: give the site's with --public-key.")


@app.command()
def export(
    who: WhoArgument,
    where: _Where,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to make, or a .zip.")],
    clips: Annotated[
        bool, typer.Option("--clips", help="Also copy clips; others may be seen on them.")
    ] = False,
    also: AlsoOption = None,
    of: OfOption = None,
    key: KeyOption = None,
    audit: AuditOption = None,
) -> None:
    """Gather everything that is stored about one person, to be given to them."""
    from pipeline.privacy.access import gather, gather_zip
    from pipeline.privacy.audit import current_user
    from pipeline.privacy.finding import log_beside, place

    log = log_beside(where, audit)
    with ExitStack() as stack:
        places = {name: place(name, stack, key_if_any(key)) for name in where}
        labels, subject = _labels(who, also or [], of, places, log)
        log.record("export", who=current_user(), subject=subject)
        sources = _sources(who, places, log)
        collect = gather_zip if out.suffix.lower() == ".zip" else gather
        found = collect(labels, sources, out, with_clips=clips)
    counts = f"{found.num_sightings} sightings, {len(found.files)} files"
    say(f"{out}: {counts}, {found.num_entries} entries of audit logs.")
    if not (found.num_sightings or found.files or sources.galleries):
        say(f"Nobody there is called {who}: check how it is written before you answer so.")
    if found.left_out:
        say(
            f"{len(found.left_out)} files show others, too, and were left out: README.txt in it "
            "names them."
        )


@app.command()
def forget(
    who: WhoArgument,
    where: _Where,
    everybody: Annotated[
        bool,
        typer.Option(
            "--everybody-on-video",
            help="Also remove annotated videos, outlines and tracks, which show others, too.",
        ),
    ] = False,
    also: AlsoOption = None,
    of: OfOption = None,
    dry_run: DryRunOption = False,
    receipt: ReceiptOption = None,
    key: KeyOption = None,
    audit: AuditOption = None,
) -> None:
    """Remove everything that is stored about one person."""
    from pipeline.privacy.audit import current_user
    from pipeline.privacy.finding import log_beside, place
    from pipeline.privacy.retention import Remover

    log = log_beside(where, audit)
    refuse_without_key(receipt, key)
    with ExitStack() as stack:
        found = {name: place(name, stack) for name in where}
        labels, subject = _labels(who, also or [], of, found, log)
        places = list(found.values())
        shown = list(_showing_others(places, labels))
        remover = Remover(places, log, current_user(), is_dry_run=dry_run)
        removal = carry_out(
            lambda: remover.forget(labels, subject=subject, with_everybody=everybody),
            log,
            receipt,
            key,
        )
    if not removal.removed:
        say(f"Nothing about {who} was found in {', '.join(each.name for each in places)}.")
    if shown and not everybody:
        say("On these they are among others. With --everybody-on-video they go, too:")
        say("\n".join(f"  {path}" for path in shown))


def _showing_others(places: Sequence[Place], labels: Labels) -> Iterator[Path]:
    from pipeline.privacy.folders import DataFolder

    for each in places:
        if isinstance(each, DataFolder):
            with suppress(PipelineError):  # the removal says what cannot be read
                yield from each.showing_everybody(labels)


def _labels(
    who: str, also: Sequence[str], of: str | None, places: Mapping[str, Place], log: AuditLog
) -> tuple[Labels, str]:
    """Return all that somebody is called, and what stands for them in the audit log.

    Raises:
        ConfigError: A pseudonym that is somebody else's in each of several galleries.
    """
    from pipeline.privacy.access import also_called
    from pipeline.privacy.galleries import GalleryPlace
    from pipeline.privacy.labels import Labels

    galleries = {name: each for name, each in places.items() if isinstance(each, GalleryPlace)}
    given = frozenset(filter(_is_pseudonym, (who, *also)))
    if given and len(galleries) > 1:
        raise _several(given, "give one, with what its runs wrote, at a time")
    names = {who, *also} - given
    subject = who if who in given else None
    pseudonyms: dict[str, frozenset[str]] = {}
    for name, gallery in galleries.items():
        known = {each.identity.pseudonym for each in gallery.store.people()}
        found = [identity for _, identity in _known(who, {name: gallery})]
        names |= {each.name for each in found if each.name}
        theirs = given.union(each.pseudonym for each in found)
        if theirs:
            beside = _log_beside(name, log, is_only=len(galleries) == 1)
            pseudonyms[gallery.store.uid] = also_called(theirs, beside, known)
            subject = subject or min(theirs)
    if given and not galleries:
        uid = of or _named_by(given, places)
        pseudonyms = {uid: also_called(given, log)} if uid else {}
        names |= also_called(given, log) if not uid else frozenset()
    # A name would stay in the log for good.
    digest = hashlib.sha256(who.encode("utf-8", "replace")).hexdigest()[:8]
    return Labels(frozenset(names), pseudonyms), subject or f"somebody {digest}"


def _is_pseudonym(label: str) -> bool:
    return label.startswith("person-")


def _log_beside(name: str, log: AuditLog, *, is_only: bool) -> AuditLog:
    """Return the log that tells who was merged in a gallery."""
    from pipeline.privacy.audit import AuditLog, audit_path

    own = AuditLog(audit_path(Path(name)))
    return log if is_only and not own.path.is_file() else own


def _named_by(pseudonyms: Collection[str], places: Mapping[str, Place]) -> str | None:
    """Return the uid of the gallery whose pseudonyms data hold; None where none says.

    Raises:
        ConfigError: There are several, in each of which somebody else is called so.
    """
    from pipeline.privacy.folders import DataFolder
    from pipeline.privacy.labels import Labels
    from pipeline.privacy.places import LinesPlace, RowsPlace

    uids: dict[str, str] = {}
    for each in places.values():
        if isinstance(each, DataFolder | LinesPlace | RowsPlace):
            with suppress(PipelineError):  # the removal says what cannot be read
                for _, content in each.sightings_of(Labels(frozenset(pseudonyms))):
                    if uid := content.get("gallery", each.gallery):
                        uids.setdefault(uid, each.name)
    if len(uids) > 1:
        which = ", ".join(f"{uid} (such as in {name})" for uid, name in sorted(uids.items()))
        raise _several(pseudonyms, f"say which with --of: {which}")
    return next(iter(uids), None)


def _several(pseudonyms: Collection[str], advice: str) -> ConfigError:
    who = ", ".join(sorted(pseudonyms))
    return ConfigError(f"{who} is somebody else in each of several galleries: {advice}")


def _known(who: str, places: Mapping[str, Place]) -> Iterator[tuple[GalleryStore, Identity]]:
    """Yield the galleries that know somebody, and as whom."""
    from pipeline.gallery.records import UnknownPerson
    from pipeline.privacy.galleries import GalleryPlace

    for each in places.values():
        if isinstance(each, GalleryPlace):
            with suppress(UnknownPerson):
                yield each.store, each.store.find(who)


def _sources(who: str, places: Mapping[str, Place], log: AuditLog) -> Sources:
    from pipeline.privacy.access import Sources
    from pipeline.privacy.audit import AuditLog, audit_path
    from pipeline.privacy.galleries import write_person

    logs = {audit_path(Path(name)): each.gallery for name, each in places.items()}
    if log.path not in logs:  # elsewhere: it tells of all of them
        logs[log.path] = None
    return Sources(
        places=list(places.values()),
        logs=[(AuditLog(path), gallery) for path, gallery in logs.items()],
        galleries=[partial(write_person, *known) for known in _known(who, places)],
    )
