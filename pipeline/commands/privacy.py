"""`trackletgait privacy`: the site's key, receipts, and all that is stored about one person."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from pipeline.commands.purge import removal_table
from pipeline.errors import OutputError, PrivacyError

if TYPE_CHECKING:
    from pipeline.gallery.exemplar import Identity
    from pipeline.gallery.store import GalleryStore
    from pipeline.privacy.access import Sources
    from pipeline.privacy.audit import AuditLog
    from pipeline.privacy.keys import KeyConfig
    from pipeline.privacy.places import Place
    from pipeline.privacy.retention import Removal

app = typer.Typer(
    no_args_is_help=True,
    help="The site's key, receipts of what was removed, and all that is stored about one person.",
)

_VARIABLE = "TRACKLETGAIT_KEY"

_Who = Annotated[str, typer.Argument(help="Name or pseudonym.", show_default=False)]
_Where = Annotated[
    list[str],
    typer.Argument(help="Galleries, folders of results, files of sinks.", show_default=False),
]
_Key = Annotated[
    Path | None, typer.Option("--key", help=f"File with the site's keys; else ${_VARIABLE}.")
]
_Audit = Annotated[
    Path | None, typer.Option("--audit", help="The audit log; else beside what is named first.")
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
    _print(f"A new key is in {path}{older}. Keep a copy elsewhere.")


@app.command()
def public_key(key: _Key = None) -> None:
    """Print what receipts are checked with; publish it."""
    from pipeline.privacy.receipt import Signer

    typer.echo(Signer.load(_key_config(key)).public_key)


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
    Console(highlight=False).print(removal_table(receipt.removed, "removed"))
    signer = "the site's key" if public_key else f"the key {receipt.public_key}"
    _print(f"As it was signed with {signer}: {receipt.action} of {receipt.subject}.")
    if not public_key:
        _print("Anybody may have made that key: give the site's with --public-key.")


@app.command()
def export(
    who: _Who,
    where: _Where,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to make, or a .zip.")],
    clips: Annotated[
        bool, typer.Option("--clips", help="Also copy clips; others may be seen on them.")
    ] = False,
    key: _Key = None,
    audit: _Audit = None,
) -> None:
    """Gather everything that is stored about one person, to be given to them."""
    from pipeline.privacy.access import gather, gather_zip
    from pipeline.privacy.audit import current_user
    from pipeline.privacy.finding import log_beside, place

    log = log_beside(where, audit)
    with ExitStack() as stack:
        places = [place(name, stack, _key_if_any(key)) for name in where]
        labels, subject = _labels(who, places)
        log.record("export", who=current_user(), subject=subject)
        sources = _sources(who, places, log, where)
        collect = gather_zip if out.suffix.lower() == ".zip" else gather
        found = collect(labels, sources, out, with_clips=clips)
    counts = f"{found.num_sightings} sightings, {len(found.files)} files"
    _print(f"{out}: {counts}, {found.num_entries} entries of audit logs.")
    if found.left_out:
        _print(
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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only say what would go.")
    ] = False,
    receipt: Annotated[
        Path | None, typer.Option("--receipt", help="Write a signed receipt to give to them.")
    ] = None,
    key: _Key = None,
    audit: _Audit = None,
) -> None:
    """Remove everything that is stored about one person."""
    from pipeline.privacy.audit import current_user
    from pipeline.privacy.finding import log_beside, place
    from pipeline.privacy.places import FolderPlace
    from pipeline.privacy.receipt import Signer
    from pipeline.privacy.retention import Remover

    log = log_beside(where, audit)
    if receipt is not None and not dry_run:
        Signer.load(_key_config(key))  # a key that is missing is missed before anything goes
    with ExitStack() as stack:
        places = [place(name, stack) for name in where]
        labels, subject = _labels(who, places)
        folders = [each.folder for each in places if isinstance(each, FolderPlace)]
        shown = [path for folder in folders for path in folder.showing_everybody(labels)]
        remover = Remover(places, log, current_user(), is_dry_run=dry_run)
        removal = remover.forget(labels, subject=subject, with_everybody=everybody)
    if not removal.removed:
        _print(f"Nothing about {who} was found in {', '.join(where)}.")
        return
    verb = "would go" if dry_run else "removed"
    Console(highlight=False).print(removal_table(removal.removed, verb))
    if shown and not everybody:
        _print("On these they are among others. With --everybody-on-video they go, too:")
        _print("\n".join(f"  {path}" for path in shown))
    if removal.entry is not None:
        _print(f"Recorded as entry {removal.entry.number} of {log.path}")
        if receipt is not None:
            _write_receipt(receipt, removal, _key_config(key))


def _write_receipt(path: Path, removal: Removal, key: KeyConfig) -> None:
    from pipeline.privacy.receipt import Signer

    assert removal.entry is not None
    text = Signer.load(key).sign(removal.entry, removal.removed).as_text()
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"{path}: the receipt cannot be written: {error.strerror}; everything was removed, and "
            f"entry {removal.entry.number} of the audit log says what"
        ) from error
    _print(f"The receipt is in {path}")


def _labels(who: str, places: Sequence[Place]) -> tuple[frozenset[str], str]:
    """Return all that somebody is called, and what stands for them in the audit log."""
    found = [identity for _, identity in _known(who, places)]
    labels = {each.pseudonym for each in found} | {each.name for each in found if each.name}
    if found:
        return frozenset(labels), found[0].pseudonym
    # A name would stay in the log for good.
    is_name = not who.startswith("person-")
    digest = hashlib.sha256(who.encode("utf-8", "replace")).hexdigest()[:8]
    return frozenset({who}), f"somebody {digest}" if is_name else who


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
    from pipeline.privacy.galleries import write_person
    from pipeline.privacy.places import FolderPlace, LinesPlace, RowsPlace

    beside = {audit_path(Path(name)) for name in where if "://" not in name} - {log.path}
    return Sources(
        folders=[each.folder for each in places if isinstance(each, FolderPlace)],
        lines=[each.path for each in places if isinstance(each, LinesPlace)],
        databases=[each.path for each in places if isinstance(each, RowsPlace)],
        logs=[log, *(AuditLog(path) for path in sorted(beside) if path.is_file())],
        galleries=[partial(write_person, *known) for known in _known(who, places)],
    )


def _key_config(path: Path | None) -> KeyConfig:
    from pipeline.privacy.keys import KeyConfig

    return KeyConfig(variable=_VARIABLE) if path is None else KeyConfig(file=str(path))


def _key_if_any(path: Path | None) -> KeyConfig | None:
    return _key_config(path) if path is not None or os.environ.get(_VARIABLE) else None


def _print(text: str) -> None:
    Console(highlight=False, soft_wrap=True).print(escape(text))
