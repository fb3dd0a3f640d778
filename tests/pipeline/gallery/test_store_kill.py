"""Kill -9 at random moments: what was acknowledged stays, and nothing is half done."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.gallery.store import GalleryStore

OLD = Path(__file__).parent / "schema-1.gallery"

# Python and its imports are started once; each kill takes a fork of it. A line is a job: a path, a
# seed and how many steps to go. Before each step the child says what it will do, after it, that it
# is done.
_PROGRAM = """
import json, os, random, sys
import numpy as np
from pipeline.gallery.exemplar import Enrolment, Exemplar
from pipeline.gallery.store import GalleryStore
import pipeline.gallery.migrations

def walk(name, n):
    embedding = np.full((256, 16), hash((name, n)) % 97 / 97, np.float32)
    silhouettes = np.full((10, 64, 44), n, np.uint8)
    return Exemplar(f"{name}/{n}/0", name, n, (0, 1), 1.0, 30, embedding, silhouettes=silhouettes)

def tell(**what):
    os.write(1, json.dumps(what).encode() + b"\\n")

def work(path, seed):
    rng = random.Random(seed)
    consent = Enrolment("consent")
    tell(opening=True)
    with GalleryStore(path, model_hash="a" * 64, keep_silhouettes=True) as store:
        tell(opened=True)
        for step in range(10**9):
            there = {p.identity.label: p for p in store.people()}
            ours = [label for label in there if label.startswith("w")]
            actions = ["enrol", "enrol", "merge", "forget", "hand over"]
            action = rng.choice(actions) if len(ours) > 2 else "enrol"
            if action == "enrol":
                name = f"w{seed}x{step}"
                tell(does="enrol", who=name)
                store.enrol(name, [walk(name, n) for n in range(3)], consent)
            elif action == "merge":
                into, other = rng.sample(ours, 2)
                total = sum(there[label].num_exemplars for label in (into, other))
                tell(does="merge", who=into, other=other, total=min(total, 10))
                store.merge(there[into].identity, there[other].identity, budget=10)
            elif action == "hand over":
                to, who = rng.sample(ours, 2)
                keys = [kept.id for kept in store.kept(there[who].identity)][1:]
                total = min(there[to].num_exemplars + len(keys), 10)
                tell(does="hand over", who=who, to=to, total=total)
                store.hand_over(keys, there[who].identity, there[to].identity, budget=10)
            else:
                gone = rng.choice(ours)
                tell(does="forget", who=gone)
                store.forget(there[gone].identity)
            tell(done=True)

GalleryStore(None, model_hash="a" * 64).close()
for line in sys.stdin:
    path, seed = line.split()
    if (child := os.fork()) == 0:
        try:
            work(path, int(seed))
        except BaseException as error:
            tell(failed=repr(error))
            os._exit(1)
    tell(pid=child)
    os.waitpid(child, 0)
    tell(dead=True)
"""


class _Victims:
    """Processes that change a gallery as fast as they can, to be killed."""

    def __init__(self) -> None:
        self._zygote = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def kill(self, path: Path, seed: int, *, after_steps: int, delay_s: float) -> list[dict]:
        """Return what the child said before it was killed, `delay_s` after so many lines."""
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        self._zygote.stdin.write(f"{path} {seed}\n")
        self._zygote.stdin.flush()
        said: list[dict] = []
        pid = None
        while True:
            line = json.loads(self._zygote.stdout.readline())
            assert "failed" not in line, line
            pid = line.get("pid", pid)
            if "dead" in line:
                return said
            said += [line] if "pid" not in line else []
            if pid is not None and len(said) >= after_steps:
                time.sleep(delay_s)
                os.kill(pid, signal.SIGKILL)
                after_steps = 10**9

    def close(self) -> None:
        self._zygote.communicate(timeout=100)


@pytest.fixture
def victims() -> Iterator[_Victims]:
    victims = _Victims()
    yield victims
    victims.close()


def people_of(path: Path) -> dict[str, int]:
    """How many exemplars everybody has, of a gallery that is looked at closely."""
    with GalleryStore(path, model_hash="a" * 64) as store:
        for kept in store.kept(whole=True):
            assert kept.embedding is not None
        people = {person.identity.label: person.num_exemplars for person in store.people()}
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        owners = connection.execute("SELECT count(DISTINCT identity_id) FROM exemplar").fetchone()
        assert owners == connection.execute("SELECT count(*) FROM identity").fetchone()
        assert connection.execute("SELECT is_scrubbed FROM gallery").fetchall() == [(1,)]
    connection.close()
    return people


def applied(people: dict[str, int], step: dict) -> dict[str, int]:
    """Return who is there after a step that was done."""
    people = dict(people)
    if step["does"] == "enrol":
        people[step["who"]] = 3
    elif step["does"] == "merge":
        del people[step["other"]]
        people[step["who"]] = step["total"]
    elif step["does"] == "hand over":
        people |= {step["who"]: 1, step["to"]: step["total"]}
    else:
        del people[step["who"]]
    return people


def kill_many(path: Path, victims: _Victims, kills: int) -> int:
    """Kill so often; return how many steps were acknowledged."""
    rng = random.Random(0)
    expected: dict[str, int] = {}
    num_done = 0
    for seed in range(kills):
        said = victims.kill(
            path, seed, after_steps=rng.randint(1, 12), delay_s=rng.choice([0, 0.002, 0.01])
        )
        steps = [line for line in said if "does" in line]
        done = sum("done" in line for line in said)
        num_done += done
        for step in steps[:done]:
            expected = applied(expected, step)
        # The step that was under way is done or not, but never half.
        possible = [expected, *(applied(expected, step) for step in steps[done:])]
        found = people_of(path)
        assert found in possible, (found, possible)
        expected = found
    return num_done


def test_enrolling_merging_and_forgetting_survive_kill_9(tmp_path: Path, victims: _Victims) -> None:
    assert kill_many(tmp_path / "people.gallery", victims, 20) > 20


@pytest.mark.slow
def test_enrolling_merging_and_forgetting_survive_many_kills(
    tmp_path: Path, victims: _Victims
) -> None:
    assert kill_many(tmp_path / "people.gallery", victims, 200) > 200


def test_a_gallery_that_was_killed_while_it_was_made_opens(
    tmp_path: Path, victims: _Victims
) -> None:
    rng = random.Random(2)
    for seed in range(10):
        path = tmp_path / f"{seed}.gallery"
        victims.kill(path, seed, after_steps=1, delay_s=rng.uniform(0, 0.1))
        people_of(path)


def migrate_and_kill(folder: Path, victims: _Victims, kills: int) -> list[int]:
    """Kill so often within the first moments of a migration; return the schemas found after."""
    rng = random.Random(1)
    schemas = []
    for seed in range(kills):
        path = Path(shutil.copy(OLD, folder / f"{seed}.gallery"))
        victims.kill(path, seed, after_steps=1, delay_s=rng.uniform(0, 0.15))
        with sqlite3.connect(path) as connection:
            [(schema,)] = connection.execute("SELECT schema_version FROM gallery").fetchall()
            columns = len(connection.execute("PRAGMA table_info(exemplar)").fetchall())
        connection.close()
        schemas.append(schema)
        assert columns == {1: 11, 2: 13}[schema]
        people = people_of(path)
        assert {"person-001": 2, "person-002": 1, "person-003": 1}.items() <= people.items()
    return schemas


def test_a_migration_that_is_killed_is_done_or_not(tmp_path: Path, victims: _Victims) -> None:
    migrate_and_kill(tmp_path, victims, 10)


@pytest.mark.slow
def test_migrations_survive_many_kills(tmp_path: Path, victims: _Victims) -> None:
    assert set(migrate_and_kill(tmp_path, victims, 60)) == {1, 2}  # before and after were met
