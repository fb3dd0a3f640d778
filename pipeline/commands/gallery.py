"""`trackletgait gallery`: who is known, and what is kept of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipeline.commands.gallery_options import (
    AuditOption,
    BasisOption,
    ByOption,
    ConfigOption,
    ExpiresOption,
    GalleryOption,
    JsonOption,
    Note,
    PurposeOption,
    SetOption,
    WhoArgument,
    answers_of,
    by_whom,
    enrolment_of,
    find_walks,
    log_of,
    recorded,
    refuse_anonymous,
    refuse_in_vain,
    say,
    settings_of,
)
from pipeline.commands.gallery_tables import (
    answer_data,
    kept_data,
    person_data,
    print_answers,
    print_json,
    print_people,
    print_person,
)
from pipeline.errors import ConfigError

app = typer.Typer(
    no_args_is_help=True,
    help="Who is known: enrol, list, show, search, rename, merge, split, forget.\n\n"
    "Every enrolment wants a basis in law; every action is noted in the audit log (`trackletgait "
    "audit show GALLERY`).",
)


@app.command()
def enrol(
    name: Annotated[str, typer.Argument(help="The person's name.", show_default=False)],
    walks: Annotated[
        list[str],
        typer.Argument(
            metavar="VIDEO|TRACKLET.npz...",
            help="Videos of the person walking, or tracklets of a results folder.",
            show_default=False,
        ),
    ],
    basis: BasisOption = None,
    purpose: PurposeOption = None,
    expires: ExpiresOption = None,
    track: Annotated[
        list[str] | None,
        typer.Option(help="The track that is meant, where there are several; may be repeated."),
    ] = None,
    add: Annotated[bool, typer.Option("--add", help="Add walks to somebody known.")] = False,
    gallery: GalleryOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    who: ByOption = None,
    audit: AuditOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make somebody known by name, from videos of them walking.

    Named galleries are switched on in the configuration: gallery.mode=named. Let the person walk
    alone and in full view, past the camera and towards it: each side seen is a side known.
    """
    settings = settings_of(gallery, config, set_)
    log = log_of(settings, audit)
    enrolment = None if add else enrolment_of(basis, purpose, expires, who)
    refuse_in_vain(settings, name, is_known=add)
    from pipeline.gallery.enrolment import choose

    found = find_walks(walks, settings)
    chosen = choose(found, track or (), min_length=settings.assembler.min_length)
    exemplars = [exemplar for walk in chosen for exemplar in walk.exemplars()]
    budget = settings.gallery.max_exemplars
    note = Note("gallery", {"tracklets": [each.tracklet_uid for each in exemplars]})
    with settings.gallery.open_store(model_hash=found.model_hash) as store:
        if enrolment is None:
            identity = store.find(name)
            note.subject = identity.pseudonym
            with recorded(log, who, "add", note):
                store.extend(identity, exemplars, budget=budget)
        else:
            note.details |= {"basis": enrolment.basis, "purpose": enrolment.purpose or ""}
            with recorded(log, who, "enrol", note):
                identity = store.enrol(name, exemplars, enrolment, budget=budget)
                note.subject = identity.pseudonym
        person = next(each for each in store.people() if each.identity == identity)
    if as_json:
        print_json(person_data(person))
    else:
        say(
            f"{identity.label} ({identity.pseudonym}) is known by {person.num_exemplars} of "
            f"{len(exemplars)} tracklets: {'; '.join(walk.description for walk in chosen)}"
        )


@app.command("list")
def list_(
    gallery: GalleryOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """List everybody."""
    with settings_of(gallery, config, set_).gallery.open_store(model_hash=None) as store:
        people = store.people()
    if as_json:
        print_json([person_data(person) for person in people])
    else:
        print_people(people)


@app.command()
def show(
    person: WhoArgument,
    gallery: GalleryOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is recorded and kept of somebody."""
    with settings_of(gallery, config, set_).gallery.open_store(model_hash=None) as store:
        identity = store.find(person)
        shown = next(each for each in store.people() if each.identity == identity)
        kept = list(store.kept(identity))
    if as_json:
        print_json({**person_data(shown), "exemplars": [kept_data(each) for each in kept]})
    else:
        print_person(shown, kept)


@app.command()
def search(
    video: Annotated[
        list[str],
        typer.Argument(metavar="VIDEO|TRACKLET.npz...", help="Where to look.", show_default=False),
    ],
    nearest: Annotated[int, typer.Option("--nearest", "-n", min=1, help="So many each.")] = 3,
    gallery: GalleryOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    who: ByOption = None,
    audit: AuditOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say who of the gallery the people on a video are nearest to; nothing is stored."""
    settings = settings_of(gallery, config, set_)
    log = log_of(settings, audit)
    with settings.gallery.open_store(model_hash=None):
        pass  # a mistake in its path is said before the video is read
    found = find_walks(video, settings)
    with settings.gallery.open_store(model_hash=found.model_hash) as store:
        log.record("search", who=by_whom(who), subject="gallery", details={"videos": video})
        answers = answers_of(store, found, nearest)
    threshold = settings.gallery.threshold
    threshold = settings.encoder.threshold if threshold is None else threshold
    if as_json:
        print_json([answer_data(answer, threshold) for answer in answers])
    else:
        print_answers(answers, threshold)


@app.command()
def rename(
    person: WhoArgument,
    name: Annotated[str, typer.Argument(help="The new name.", show_default=False)],
    basis: BasisOption = None,
    purpose: PurposeOption = None,
    expires: ExpiresOption = None,
    gallery: GalleryOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    who: ByOption = None,
    audit: AuditOption = None,
) -> None:
    """Give somebody another name; whoever had only a pseudonym is enrolled so, with a basis."""
    settings = settings_of(gallery, config, set_)
    log = log_of(settings, audit)
    refuse_anonymous(settings)
    with settings.gallery.open_store(model_hash=None) as store:
        identity = store.find(person)
        is_new = identity.name is None or basis is not None
        enrolment = enrolment_of(basis, purpose, expires, who) if is_new else None
        note = Note(identity.pseudonym, {"basis": enrolment.basis} if enrolment else {})
        with recorded(log, who, "rename", note):
            renamed = store.rename(identity, name, enrolment)
    say(f"{identity.label} is {renamed.label} now.")


@app.command()
def merge(
    into: Annotated[str, typer.Argument(help="Who stays.", show_default=False)],
    other: Annotated[str, typer.Argument(help="Who is the same person.", show_default=False)],
    gallery: GalleryOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    who: ByOption = None,
    audit: AuditOption = None,
) -> None:
    """Make one person of two."""
    settings = settings_of(gallery, config, set_)
    log = log_of(settings, audit)
    with settings.gallery.open_store(model_hash=None) as store:
        kept, gone = store.find(into), store.find(other)
        note = Note(kept.pseudonym, {"other": gone.pseudonym})
        with recorded(log, who, "merge", note):
            store.merge(kept, gone, budget=settings.gallery.max_exemplars)
    say(f"{gone.label} is {kept.label} now.")


@app.command()
def split(
    person: WhoArgument,
    keys: Annotated[
        list[int],
        typer.Argument(
            metavar="KEY...", help="Exemplars that are another's: see `show`.", show_default=False
        ),
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="Of the other person; else a pseudonym.")
    ] = None,
    basis: BasisOption = None,
    purpose: PurposeOption = None,
    expires: ExpiresOption = None,
    gallery: GalleryOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    who: ByOption = None,
    audit: AuditOption = None,
) -> None:
    """Make two people of one."""
    settings = settings_of(gallery, config, set_)
    log = log_of(settings, audit)
    enrolment = None
    if name is not None:
        refuse_anonymous(settings)
        enrolment = enrolment_of(basis, purpose, expires, who)
    with settings.gallery.open_store(model_hash=None) as store:
        identity = store.find(person)
        note = Note(identity.pseudonym)
        with recorded(log, who, "split", note):
            other = store.split(identity, keys, name, enrolment)
            note.details["other"] = other.pseudonym
    say(f"{len(set(keys))} exemplars of {identity.label} are {other.label}'s now.")


@app.command()
def forget(
    person: WhoArgument,
    gallery: GalleryOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    who: ByOption = None,
    audit: AuditOption = None,
) -> None:
    """Remove somebody from the gallery, with the bytes in its file.

    What results of runs hold of them, and a receipt: `trackletgait privacy forget`.
    """
    from pipeline.privacy.galleries import GalleryPlace
    from pipeline.privacy.retention import Remover

    settings = settings_of(gallery, config, set_)
    log = log_of(settings, audit)
    with settings.gallery.open_store(model_hash=None) as store:
        identity = store.find(person)
        remover = Remover([GalleryPlace(store)], log, by_whom(who))
        removal = remover.forget(frozenset({identity.pseudonym}), subject=identity.pseudonym)
    counts = ", ".join(f"{each.count} {each.kind}" for each in removal.removed)
    say(f"{identity.label} is forgotten ({counts}).")
    say("Results of runs may still show them: `trackletgait privacy forget` removes these, too.")


@app.command()
def export(
    out: Annotated[Path, typer.Argument(help="The file to write.", show_default=False)],
    people: Annotated[
        list[str] | None, typer.Argument(metavar="[PERSON]...", help="Who; else everybody.")
    ] = None,
    gallery: GalleryOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    who: ByOption = None,
    audit: AuditOption = None,
) -> None:
    """Write people into a file for another gallery. It is not encrypted: keep it safe."""
    from pipeline.gallery.exchange import export_people

    settings = settings_of(gallery, config, set_)
    log = log_of(settings, audit)
    with settings.gallery.open_store(model_hash=None) as store:
        identities = [store.find(each) for each in people or ()]
        subjects = [each.pseudonym for each in identities] or ["everybody"]
        with recorded(log, who, "export", Note("gallery", {"people": subjects, "file": str(out)})):
            count = export_people(store, out, identities)
    say(f"{count} people are in {out}, readable by you only and not encrypted.")


@app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="What `export` wrote.", show_default=False)],
    gallery: GalleryOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    who: ByOption = None,
    audit: AuditOption = None,
) -> None:
    """Add the people of a file, all or none. Who has no name gets a new pseudonym."""
    from pipeline.gallery.exchange import import_people, model_of

    settings = settings_of(gallery, config, set_)
    log = log_of(settings, audit)
    gallery_config = settings.gallery
    is_there = gallery_config.is_there()
    with gallery_config.open_store(model_hash=None if is_there else model_of(path)) as store:
        note = Note("gallery", {"file": str(path)})
        with recorded(log, who, "import", note):
            identities = import_people(
                store,
                path,
                budget=gallery_config.max_exemplars,
                with_names=gallery_config.mode == "named",
            )
            note.details["people"] = [each.pseudonym for each in identities]
    say(f"{len(identities)} people are new: {', '.join(each.label for each in identities)}")


@app.command("re-embed")
def re_embed_(
    drop_others: Annotated[
        bool, typer.Option("--drop-others", help="Remove exemplars without silhouettes.")
    ] = False,
    gallery: GalleryOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    who: ByOption = None,
    audit: AuditOption = None,
) -> None:
    """Make the gallery one of the configured encoder, from the silhouettes that were kept."""
    from pipeline.gallery.reembed import re_embed

    settings = settings_of(gallery, config, set_)
    log = log_of(settings, audit)
    console = Console(stderr=True)
    with settings.gallery.open_store(model_hash=None) as store, settings.encoder.build() as encoder:
        model = encoder.model_hash
        note = Note("gallery", {"model": model})
        with console.status("Embedding ...") as status, recorded(log, who, "re-embed", note):
            done = re_embed(
                store,
                encoder,
                drop_others=drop_others,
                on_progress=lambda count: status.update(f"Embedding: {count} exemplars"),
            )
            note.details["dropped"] = done.num_dropped
    say(f"{done.num_embedded} exemplars are of model {model[:12]} now, {done.num_dropped} dropped.")


@app.command()
def seal(
    gallery: GalleryOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    who: ByOption = None,
    audit: AuditOption = None,
) -> None:
    """Seal everything with the first of the site's keys (gallery.key), after a rotation."""
    settings = settings_of(gallery, config, set_)
    log = log_of(settings, audit)
    if settings.gallery.key is None:
        raise ConfigError("gallery.key: expected the site's key, e.g. gallery.key.file=site.key")
    with settings.gallery.open_store(model_hash=None) as store:
        note = Note("gallery")
        with recorded(log, who, "seal", note):
            note.details["exemplars"] = count = store.seal()
    say(f"{count} exemplars were sealed anew.")
