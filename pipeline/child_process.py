"""Processes of ours beside the run: what they inherit of it, and what not."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

# What FFmpeg and Python may want of the environment. Not all of it: there the passwords are.
_KEPT = (
    *("PATH", "HOME", "LANG", "LC_", "TZ", "TMPDIR", "PYTHON", "LD_LIBRARY_PATH", "SSL_CERT_"),
    *("CUDA_", "NVIDIA_", "LIBVA_", "XDG_RUNTIME_DIR"),
)


def start(module: str, *arguments: str, **pipes: Any) -> subprocess.Popen[bytes]:
    """Run a module in a process of its own, which Ctrl-C does not reach: that is for the run.

    It imports from where we do, not from the folder that happens to be the current one.

    Args:
        module: Its full name.
        arguments: Anybody on the machine can read them.
        pipes: Of `subprocess.Popen`: what it is given to read and to write.

    Raises:
        OSError: No process can be started.
    """
    kept = {key: value for key, value in os.environ.items() if key.startswith(_KEPT)}
    own = {"PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-m", module, *arguments]
    return subprocess.Popen(command, env={**kept, **own}, start_new_session=True, **pipes)
