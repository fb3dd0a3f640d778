"""Cameras that come, go and change while they run: by a file read again, or by command."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.errors import ConfigError
from pipeline.live.config import LiveConfig, address_of, camera_from_json
from pipeline.sources.camera import CameraConfig
from pipeline.sources.cameras import Cameras
from pipeline.sources.inputs import did_you_mean

logger = logging.getLogger(__name__)


class CameraDesk:
    """The one place where cameras come and go; from any thread.

    Args:
        cameras: What is read.
        config: What the run began with.
        reread: Reads the configuration's file again; None without a file.
    """

    def __init__(
        self,
        cameras: Cameras,
        config: LiveConfig,
        reread: Callable[[], LiveConfig] | None = None,
    ) -> None:
        self._cameras = cameras
        self._config = config
        self._reread = reread
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Read the cameras the run began with."""
        with self._lock:
            for name, camera in self._config.cameras.items():
                if name not in self._cameras.by_name:  # a command may have been quicker
                    self._cameras.add(name, camera)

    def add(self, name: str, data: object) -> None:
        """Add a camera that is an address, or a block as in the file.

        Raises:
            ConfigError: There is one of that name, or it cannot be used.
        """
        camera = camera_from_json(name, data)
        refuse_missing_files({name: camera})
        with self._lock:
            self._cameras.add(name, camera)

    def change(self, name: str, data: object) -> None:
        """Read a camera in another way.

        Raises:
            ConfigError: There is none of that name, or it cannot be used.
        """
        camera = camera_from_json(name, data)
        refuse_missing_files({name: camera})
        with self._lock:
            self._cameras.change(name, camera)

    def remove(self, name: str) -> None:
        """Stop reading a camera.

        Raises:
            ConfigError: There is none of that name.
        """
        with self._lock:
            self._cameras.remove(name)

    def pause(self, name: str) -> None:
        """Disconnect a camera and keep it; ConfigError when there is none of that name."""
        self._cameras.pause(name)

    def resume(self, name: str) -> None:
        """Connect a paused camera again; ConfigError when there is none of that name."""
        self._cameras.resume(name)

    def reload(self) -> dict[str, list[str]]:
        """Read the file again, and apply what it says otherwise than last time of the cameras.

        Returns:
            The names that were added, changed and removed.

        Raises:
            ConfigError: There is no file, or it is not right; nothing has changed.
        """
        if self._reread is None:
            raise ConfigError("reload: this run was given addresses, there is no file to read")
        with self._lock:
            new = self._reread()
            old = self._config.cameras
            fresh = {name: each for name, each in new.cameras.items() if each != old.get(name)}
            refuse_missing_files(fresh)
            done = self._apply(old, new.cameras)
            if new.model_dump(exclude={"cameras"}) != self._config.model_dump(exclude={"cameras"}):
                logger.warning("reload: what is not of cameras takes effect with the next run")
            self._config = self._config.model_copy(update={"cameras": new.cameras})
        words = ", ".join(f"{what} {' '.join(names) or 'none'}" for what, names in done.items())
        logger.info("reload: %s", words)
        return done

    def _apply(
        self, old: Mapping[str, CameraConfig], new: Mapping[str, CameraConfig]
    ) -> dict[str, list[str]]:
        # Cameras that came by command are not in the file: it says nothing of them.
        present = self._cameras.by_name
        removed = [name for name in old if name not in new and name in present]
        for name in removed:
            self._cameras.remove(name)
        changed = [n for n in new if n in present and n in old and new[n] != old[n]]
        added = [name for name in new if name not in present]
        for name in changed:
            self._cameras.change(name, new[name])
        for name in added:
            self._cameras.add(name, new[name])
        return {"added": added, "changed": changed, "removed": removed}


def refuse_missing_files(cameras: Mapping[str, CameraConfig]) -> None:
    """Refuse cameras that are files which are not there: nobody would ever be seen on them.

    What is under /dev may be plugged in later.

    Raises:
        ConfigError: Naming the camera, and the files of nearly that name.
    """
    for name, camera in cameras.items():
        address = address_of(name, camera)
        path = Path(address.url)
        if "://" in address.url or path.is_relative_to("/dev"):
            continue
        if path.exists() and not path.is_dir():
            continue
        what = "a folder" if path.is_dir() else f"no such file{did_you_mean(path)}"
        raise ConfigError(
            f"cameras.{name}.url: expected an address such as rtsp://host/stream, or a file that "
            f"is there, got {address.shown}: {what}"
        )
