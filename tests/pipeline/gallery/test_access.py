from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet

import pytest

from pipeline.gallery.access import SharedAccess

GENEROUS_S = 30.0


def enter(pool: ThreadPoolExecutor, access: SharedAccess, *, change: bool) -> Future[None]:
    def go() -> None:
        with access.changing() if change else access.reading():
            pass

    return pool.submit(go)


def waits(future: Future[None]) -> bool:
    try:
        future.result(0.05)
    except NotYet:
        return True
    return False


def test_readers_do_not_wait_for_each_other() -> None:
    access = SharedAccess()
    with ThreadPoolExecutor() as pool, access.reading():
        enter(pool, access, change=False).result(GENEROUS_S)


def test_a_change_waits_for_who_reads_and_whoever_comes_later_waits_for_the_change() -> None:
    access = SharedAccess()
    with ThreadPoolExecutor() as pool:
        with access.reading():
            change = enter(pool, access, change=True)
            assert waits(change)
            reader = enter(pool, access, change=False)
            assert waits(reader)
        change.result(GENEROUS_S)
        reader.result(GENEROUS_S)


def test_while_one_changes_nobody_else_does_anything() -> None:
    access = SharedAccess()
    with ThreadPoolExecutor() as pool:
        with access.changing():
            others = [enter(pool, access, change=change) for change in (True, False)]
            assert all(waits(each) for each in others)
        for each in others:
            each.result(GENEROUS_S)


def test_an_error_within_a_block_lets_the_others_in() -> None:
    access = SharedAccess()
    for block in (access.reading, access.changing):
        with pytest.raises(RuntimeError), block():
            raise RuntimeError
    with access.changing():
        pass


def test_changes_by_many_threads_never_overlap() -> None:
    access, inside, most = SharedAccess(), 0, 0
    begin = threading.Barrier(4)

    def change() -> None:
        nonlocal inside, most
        begin.wait(GENEROUS_S)
        for _ in range(200):
            with access.changing():
                inside += 1
                most = max(most, inside)
                inside -= 1

    with ThreadPoolExecutor(4) as pool:
        for each in [pool.submit(change) for _ in range(4)]:
            each.result(GENEROUS_S)
    assert most == 1
