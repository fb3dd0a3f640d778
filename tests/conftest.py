"""What holds for all tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import settings

from gait.runtimes.cache import CACHE_VARIABLE

settings.register_profile("patient", deadline=None)  # a busy machine is late: no mistake of ours
settings.load_profile("patient")


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
