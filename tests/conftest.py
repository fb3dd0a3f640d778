"""What holds for all tests."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import settings

from gait.runtimes.cache import CACHE_VARIABLE

settings.register_profile("patient", deadline=None)  # a busy machine is late: no mistake of ours
settings.load_profile("patient")

OURS = ("gait", "pipeline", "trackers")


@pytest.fixture(scope="session", autouse=True)
def _own_cache() -> Iterator[None]:
    """Keep graphs, engines and verdicts of tests out of the user's cache; tests share them."""
    before = os.environ.get(CACHE_VARIABLE)
    folder = tempfile.mkdtemp(prefix="trackletgait-tests-")
    os.environ[CACHE_VARIABLE] = folder
    yield
    shutil.rmtree(folder, ignore_errors=True)
    if before is None:
        del os.environ[CACHE_VARIABLE]
    else:
        os.environ[CACHE_VARIABLE] = before


@pytest.fixture(autouse=True)
def _own_log_levels() -> Iterator[None]:
    """Undo what the command line does to our loggers: the next test may listen to them."""
    yield
    for name, logger in logging.root.manager.loggerDict.items():
        if name.partition(".")[0] in OURS and isinstance(logger, logging.Logger):
            logger.setLevel(logging.NOTSET)
