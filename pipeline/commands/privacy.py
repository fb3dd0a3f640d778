"""`trackletgait privacy`: the site's key, receipts, and all that is stored about one person."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    from pipeline.privacy.places import Place

app = typer.Typer(
    no_args_is_help=True,
    help="The site's key, receipts of what was removed, and all that is stored about one person.",
)

_Who = Annotated[str, typer.Argument(help="Name or pseudonym.", show_default=False)]
_Where = Annotated[
    list[str],
    typer.Argument(
        help="Galleries, folders of results or clips, files of sinks.", show_default=False
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
    older = f"; {num_keys - 1} older ones still open what they sealed" if num_keys > 1 else ""
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
    except (OSError, UnicodeDecodeError) as error:
        raise PrivacyError(f"{path}: the receipt cannot be read: {error}") from error
    log = None if audit is None else AuditLog(audit)
    verify_receipt(receipt, public_keys=tuple(public_key or ()), log=log)
    print_removed(receipt.removed)
    signer = "the site's key" if public_key else f"the key {receipt.public_key}"
    say(f"As it was signed with {signer}: {receipt.action} of {receipt.subject}.")
    if not public_key:
        say("Anybody may have made that key: give the site's with --public-key.")


@app.command()
def export(
    who: _Who,
    where: _Where,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to make, or a .zip.")],
    clips: Annotated[
        bool, typer.Option("--clips", help="Also copy clips; others may be seen on them.")
    ] = False,
    key: KeyOption = None,
    audit: AuditOption = None,
) -> None:
    """Gather everything that is stored about one person, to be given to them."""
    from pipeline.privacy.access import gather, gather_zip
    from pipeline.privacy.audit import current_user
    from pipeline.privacy.finding import log_beside, place

    log = log_beside(where, audit)
    with ExitStack() as stack:
        places = [place(name, stack, key_if_any(key)) for name in where]
        labels, subject = _labels(who, places, log)
        log.record("export", who=current_user(), subject=subject)
        sources = _sources(who, places, log, where)
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
    who: _Who,
    where: _Where,
    everybody: Annotated[
        bool,
        typer.Option(
            "--everybody-on-video",
            help="Also remove annotated videos, outlines and tracks, which show others, too.",
        ),
    ] = False,
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
        places = [place(name, stack) for name in where]
        labels, subject = _labels(who, places, log)
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


def _showing_others(places: Sequence[Place], labels: frozenset[str]) -> Iterator[Path]:
    from pipeline.privacy.folders import DataFolder

    for each in places:
        if isinstance(each, DataFolder):
            with suppress(PipelineError):  # the removal says what cannot be read
                yield from each.showing_everybody(labels)


def _labels(who: str, places: Sequence[Place], log: AuditLog) -> tuple[frozenset[str], str]:
    """Return all that somebody is called, and what stands for them in the audit log."""
    from pipeline.privacy.access import also_called

    found = [identity for _, identity in _known(who, places)]
    named = {each.name for each in found if each.name}
    labels = frozenset({each.pseudonym for each in found} | named)
    if found:
        labels = also_called(labels, log)
        _refuse_others(places, labels)
        return labels, found[0].pseudonym
    # A name would stay in the log for good.
    is_name = not who.startswith("person-")
    digest = hashlib.sha256(who.encode("utf-8", "replace")).hexdigest()[:8]
    return also_called(frozenset({who}), log), f"somebody {digest}" if is_name else who


def _refuse_others(places: Sequence[Place], labels: frozenset[str]) -> None:
    """Miss folders whose pseudonyms another gallery gave, before anything is touched.

    Raises:
        ConfigError: Somebody else is called so there.
    """
    from pipeline.privacy.folders import DataFolder
    from pipeline.privacy.galleries import GalleryPlace

    pseudonyms = frozenset(label for label in labels if label.startswith("person-"))
    galleries = [each.name for each in places if isinstance(each, GalleryPlace)]
    for each in places:
        if not isinstance(each, DataFolder) or not each.is_of_another(galleries):
            continue
        if any(each.sightings_of(pseudonyms)):
            raise ConfigError(
                f"{each.name}: its run used another gallery, where {', '.join(sorted(pseudonyms))} "
                "is somebody else: leave it out, or give it alone, with the pseudonym that the "
                "person has there"
            )


def _known(who: str, places: Sequence[Place]) -> Iterator[tuple[GalleryStore, Identity]]:
    """Yield the galleries that know somebody, and as whom."""
    from pipeline.gallery.records import UnknownPerson
    from pipeline.privacy.galleries import GalleryPlace

    for each in places:
        if isinstance(each, GalleryPlace):
            try:
                yield each.store, each.store.find(who)
            except UnknownPerson:
                continue


def _sources(who: str, places: Sequence[Place], log: AuditLog, where: Sequence[str]) -> Sources:
    from pipeline.privacy.access import Sources
    from pipeline.privacy.audit import AuditLog, audit_path
    from pipeline.privacy.folders import ClipsFolder, DataFolder
    from pipeline.privacy.galleries import write_person
    from pipeline.privacy.places import LinesPlace, RowsPlace

    beside = {audit_path(Path(name)) for name in where if "://" not in name} - {log.path}
    return Sources(
        folders=[each for each in places if isinstance(each, DataFolder)],
        clips=[each for each in places if isinstance(each, ClipsFolder)],
        lines=[each.path for each in places if isinstance(each, LinesPlace)],
        databases=[each.path for each in places if isinstance(each, RowsPlace)],
        logs=[log, *(AuditLog(path) for path in sorted(beside) if path.is_file())],
        galleries=[partial(write_person, *known) for known in _known(who, places)],
    )
