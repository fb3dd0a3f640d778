"""The same function on many items, in several processes or in this one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import cv2

from gait.errors import DataError

Item = TypeVar("Item")
Result = TypeVar("Result")

_CHUNK = 4


def map_in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], num_workers: int
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order.

    Args:
        function: A function of a module, as it is found by name in the other processes.
        items: What to work on.
        num_workers: Processes; 1 works in this one. More finish sooner, up to the number of
            cores, at the price of about 100 MB memory each.

    Raises:
        ValueError: `num_workers` is less than 1.
        DataError: A process died, usually for want of memory; and whatever `function` raises.
    """
    if num_workers < 1:
        raise ValueError(f"num_workers: expected at least 1, got {num_workers}")
    if num_workers == 1 or len(items) <= 1:
        yield from map(function, items)
        return
    # spawn, because a fork copies the locks of threads that run here (progress bars, OpenMP)
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(num_workers, len(items)), context, _begin_worker)
    try:
        yield from pool.map(function, items, chunksize=_CHUNK)
    except BrokenProcessPool as error:
        raise DataError(
            "a worker process died, usually for want of memory; run the same command again, it "
            "continues where it stopped, with fewer --workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when the parent is gone: a killed parent cannot tell its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
