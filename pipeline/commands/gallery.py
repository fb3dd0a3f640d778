"""`trackletgait gallery`: who is known, and what is kept of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.console import Console
from pipeline.commands.gallery_options import (
    Consent,
    Desk,
    JsonOption,
    Note,
    WalksArgument,
    Where,
    WhoArgument,
    find_walks,
    refuse_anonymous,
    refuse_in_vain,
    with_options,
)
from pipeline.commands.gallery_tables import (
    answer_data,
    kept_data,
    people_text,
    person_data,
    print_answers,
    print_enrolled,
    print_json,
    print_people,
    print_person,
    say,
)
from pipeline.errors import ConfigError

app = typer.Typer(
    no_args_is_help=True,
    help="Who is known: enrol, list, show, search, rename, merge, split, forget.\n\n"
    "Each command takes the gallery: `trackletgait gallery list -g people.gallery`. Every "
    "enrolment wants a basis in law; every action is noted in the audit log (`trackletgait audit "
    "show GALLERY`).",
)


@app.callback(invoke_without_command=True)
def _first_the_command(
    gallery: Annotated[str | None, typer.Option("--gallery", "-g", hidden=True)] = None,
) -> None:
    if gallery is not None:
        raise ConfigError(
            f"--gallery: expected a command before it: trackletgait gallery list -g {gallery}"
        )


@app.command()
@with_options
def enrol(
    name: Annotated[str, typer.Argument(help="The person's name.", show_default=False)],
    walks: WalksArgument,
    consent: Consent,
    desk: Desk,
    track: Annotated[
        list[str] | None,
        typer.Option(help="The track that is meant, where there are several; may be repeated."),
    ] = None,
    add: Annotated[bool, typer.Option("--add", help="Add walks to somebody known.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make somebody known by name, from videos of them walking.

    Named galleries are switched on in the configuration: gallery.mode=named. Let the person walk
    alone and in full view, past the camera and towards it: each side seen is a side known.
    """
    settings, log = desk.sit_down()
    if add:
        consent.refuse("of somebody who is enrolled already (--add)")
    enrolment = None if add else consent.enrolment(desk.by)
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
            with desk.recorded(log, "add", note):
                store.extend(identity, exemplars, budget=budget)
        else:
            note.details |= {"basis": enrolment.basis, "purpose": enrolment.purpose or ""}
            with desk.recorded(log, "enrol", note):
                identity = store.enrol(name, exemplars, enrolment, budget=budget)
                note.subject = identity.pseudonym
        person = store.person(identity)
    if as_json:
        print_json(person_data(person))
    else:
        print_enrolled(person, chosen)


@app.command("list")
@with_options
def list_(where: Where, as_json: JsonOption = False) -> None:
    """List everybody."""
    with where.open() as store:
        people = store.people()
    if as_json:
        print_json([person_data(person) for person in people])
    else:
        print_people(people)


@app.command()
@with_options
def show(person: WhoArgument, where: Where, as_json: JsonOption = False) -> None:
    """Show what is recorded and kept of somebody."""
    with where.open() as store:
        shown = store.person(store.find(person))
        kept = list(store.kept(shown.identity))
    if as_json:
        print_json({**person_data(shown), "exemplars": [kept_data(each) for each in kept]})
    else:
        print_person(shown, kept)


@app.command()
@with_options
def search(
    video: WalksArgument,
    desk: Desk,
    nearest: Annotated[int, typer.Option("--nearest", "-n", min=1, help="So many each.")] = 3,
    as_json: JsonOption = False,
) -> None:
    """Say who of the gallery the people on a video are nearest to; nothing is stored."""
    from pipeline.gallery.lookup import look_up

    settings, log = desk.sit_down()
    with desk.open():
        pass  # a mistake in its path is said before the video is read
    found = find_walks(video, settings)
    with settings.gallery.open_store(model_hash=found.model_hash) as store:
        log.record("search", who=desk.by, subject="gallery", details={"videos": video})
        answers = look_up(store, found, count=nearest)
        limit = settings.gallery.limit(store, threshold=settings.encoder.threshold)
    if as_json:
        print_json([answer_data(answer, limit) for answer in answers])
    else:
        print_answers(answers, limit)


@app.command()
@with_options
def rename(
    person: WhoArgument,
    name: Annotated[str, typer.Argument(help="The new name.", show_default=False)],
    consent: Consent,
    desk: Desk,
) -> None:
    """Give somebody another name; whoever had only a pseudonym is enrolled so, with a basis."""
    settings, log = desk.sit_down()
    refuse_anonymous(settings)
    with desk.open() as store:
        identity = store.find(person)
        is_new = identity.name is None or consent != Consent()
        enrolment = consent.enrolment(desk.by) if is_new else None
        note = Note(identity.pseudonym, {"basis": enrolment.basis} if enrolment else {})
        with desk.recorded(log, "rename", note):
            renamed = store.rename(identity, name, enrolment)
    say(f"{identity.label} is {renamed.label} now.")


@app.command()
@with_options
def merge(
    into: Annotated[str, typer.Argument(help="Who stays.", show_default=False)],
    other: Annotated[str, typer.Argument(help="Who is the same person.", show_default=False)],
    desk: Desk,
) -> None:
    """Make one person of two."""
    settings, log = desk.sit_down()
    with desk.open() as store:
        kept, gone = store.find(into), store.find(other)
        with desk.recorded(log, "merge", Note(kept.pseudonym, {"other": gone.pseudonym})):
            store.merge(kept, gone, budget=settings.gallery.max_exemplars)
    say(f"{gone.label} is {kept.label} now.")


@app.command()
@with_options
def split(
    person: WhoArgument,
    keys: Annotated[
        list[int],
        typer.Argument(
            metavar="KEY...", help="Exemplars that are another's: see `show`.", show_default=False
        ),
    ],
    consent: Consent,
    desk: Desk,
    name: Annotated[
        str | None, typer.Option("--name", help="Of the other person; else a pseudonym.")
    ] = None,
) -> None:
    """Make two people of one."""
    settings, log = desk.sit_down()
    enrolment = None
    if name is None:
        consent.refuse("of a pseudonym (--name gives a name)")
    else:
        refuse_anonymous(settings)
        enrolment = consent.enrolment(desk.by)
    with desk.open() as store:
        identity = store.find(person)
        note = Note(identity.pseudonym)
        with desk.recorded(log, "split", note):
            other = store.split(identity, keys, name, enrolment)
            note.details["other"] = other.pseudonym
    say(f"Of {identity.label}, {', '.join(map(str, sorted(set(keys))))} went to {other.label}.")


@app.command()
@with_options
def forget(person: WhoArgument, desk: Desk) -> None:
    """Remove somebody from the gallery, with the bytes in its file.

    What results of runs hold of them, and a receipt: `trackletgait privacy forget`.
    """
    from pipeline.privacy.galleries import GalleryPlace
    from pipeline.privacy.labels import Labels
    from pipeline.privacy.retention import Remover

    _, log = desk.sit_down()
    with desk.open() as store:
        identity = store.find(person)
        remover = Remover([GalleryPlace(store)], log, desk.by)
        labels = Labels(pseudonyms={store.uid: frozenset({identity.pseudonym})})
        removal = remover.forget(labels, subject=identity.pseudonym)
    counts = ", ".join(f"{each.kind}: {each.count}" for each in removal.removed)
    say(f"{identity.label} is forgotten ({counts}).")
    say("Results of runs may still show them: `trackletgait privacy forget` removes these, too.")


@app.command()
@with_options
def export(
    out: Annotated[Path, typer.Argument(help="The file to write.", show_default=False)],
    desk: Desk,
    people: Annotated[
        list[str] | None, typer.Argument(metavar="[PERSON]...", help="Who; else everybody.")
    ] = None,
) -> None:
    """Write people into a file for another gallery. It is not encrypted: keep it safe."""
    from pipeline.gallery.exchange import export_people

    _, log = desk.sit_down()
    with desk.open() as store:
        identities = [store.find(each) for each in people or ()]
        subjects = [each.pseudonym for each in identities] or ["everybody"]
        with desk.recorded(log, "export", Note("gallery", {"people": subjects, "file": str(out)})):
            count = export_people(store, out, identities)
    say(f"{people_text(count)} in {out}, readable by you only and not encrypted.")


@app.command("import")
@with_options
def import_(
    path: Annotated[Path, typer.Argument(help="What `export` wrote.", show_default=False)],
    desk: Desk,
) -> None:
    """Add the people of a file, all or none. Who has no name gets a new pseudonym."""
    from pipeline.gallery.exchange import read_people

    settings, log = desk.sit_down()
    gallery = settings.gallery
    arrivals = read_people(path, with_names=gallery.mode == "named")
    new = None if gallery.is_there() else arrivals.model_hash
    with gallery.open_store(model_hash=new) as store:
        note = Note("gallery", {"file": str(path)})
        with desk.recorded(log, "import", note):
            identities = store.receive(arrivals, budget=gallery.max_exemplars)
            note.details["people"] = [each.pseudonym for each in identities]
    labels = ", ".join(each.label for each in identities)
    say(f"{people_text(len(identities))} new: {labels}")


@app.command("re-embed")
@with_options
def re_embed_(
    desk: Desk,
    drop_others: Annotated[
        bool, typer.Option("--drop-others", help="Remove exemplars without silhouettes.")
    ] = False,
) -> None:
    """Make the gallery one of the configured encoder, from the silhouettes that were kept."""
    from pipeline.gallery.reembed import re_embed

    settings, log = desk.sit_down()
    console = Console(stderr=True)
    with desk.open() as store, settings.encoder.build() as encoder:
        model = encoder.model_hash
        note = Note("gallery", {"model": model})
        with console.status("Embedding ...") as status, desk.recorded(log, "re-embed", note):
            done = re_embed(
                store,
                encoder,
                drop_others=drop_others,
                on_progress=lambda count: status.update(f"Embedding: {count} exemplars"),
            )
            note.details["dropped"] = done.num_dropped
    say(f"{done.num_embedded} exemplars are of model {model[:12]} now, {done.num_dropped} dropped.")


@app.command()
@with_options
def seal(desk: Desk) -> None:
    """Seal everything with the first of the site's keys (gallery.key), after a rotation."""
    settings, log = desk.sit_down()
    if settings.gallery.key is None:
        raise ConfigError("gallery.key: expected the site's key, e.g. gallery.key.file=site.key")
    with desk.open() as store:
        note = Note("gallery")
        with desk.recorded(log, "seal", note):
            note.details["exemplars"] = count = store.seal()
    say(f"{count} exemplars were sealed anew.")
