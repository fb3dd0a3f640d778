"""A PostgreSQL server of its own for tests, on a Unix socket in a temporary folder."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

USER = "walker"
PASSWORD = "p@ss:/w?o#r%d ${X}"  # every sign that an address might stumble over
_START_S = 60.0


def postgres_programs() -> Path | None:
    """Return the folder with `initdb` and `postgres`, None where they are not installed."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep)]
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    wanted = (f for f in folders if (f / "initdb").exists() and (f / "postgres").exists())
    return next(wanted, None)


class PostgresServer:
    """A server with one user, who needs a password; `close` ends it and removes all of it.

    Args:
        programs: Folder with `initdb` and `postgres`.
    """

    def __init__(self, programs: Path) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="tgpg-"))  # short: a socket's path must be
        # PostgreSQL refuses to be run by root.
        self._user = "nobody" if os.geteuid() == 0 else None
        if self._user:
            os.chown(self._folder, pwd.getpwnam(self._user).pw_uid, -1)
        self._log = (self._folder / "log").open("wb")
        self._num_databases = 0
        self._server: subprocess.Popen[bytes] | None = None
        try:
            self._start(programs)
        except BaseException:
            self.close()
            raise

    def new_database(self) -> str:
        """Return the address of a new, empty database; its password is in $GALLERY_PASSWORD."""
        self._num_databases += 1
        name = f"gallery{self._num_databases}"
        self.run(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://{USER}:${{GALLERY_PASSWORD}}@/{name}?host={self._folder}"

    def run(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run one statement and return its rows."""
        import psycopg

        with psycopg.connect(
            host=str(self._folder), user=USER, password=PASSWORD, dbname=database, autocommit=True
        ) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def bytes_of(self, database: str) -> bytes:
        """Return what is in the files of a database's tables, after a checkpoint."""
        self.run("CHECKPOINT")
        [(oid,)] = self.run(f"SELECT oid FROM pg_database WHERE datname = '{database}'")
        folder = self._folder / "data" / "base" / str(oid)
        return b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())

    def close(self) -> None:
        """End the server and remove its folder."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)  # "fast": it waits for nobody
            self._server.wait(timeout=_START_S)
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, programs: Path) -> None:
        data = self._folder / "data"
        secret = self._folder / "secret"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        login = ["--auth=scram-sha-256", f"--username={USER}", f"--pwfile={secret}"]
        subprocess.run(
            [programs / "initdb", "-D", data, "-E", "UTF8", "--no-sync", *login],
            check=True, stdout=self._log, stderr=self._log, user=self._user, cwd="/",
        )  # fmt: skip
        options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={self._folder}", "-F"]
        self._server = subprocess.Popen(
            [programs / "postgres", "-D", data, *options, "-c", "max_connections=100"],
            stdout=self._log, stderr=self._log, user=self._user, cwd="/",
        )  # fmt: skip
        self._wait()

    def _wait(self) -> None:
        import psycopg

        end = time.monotonic() + _START_S
        while True:
            try:
                self.run("SELECT 1")
                return
            except psycopg.OperationalError:
                if time.monotonic() > end:
                    said = (self._folder / "log").read_text(errors="replace")
                    raise RuntimeError(f"PostgreSQL did not start:\n{said}") from None
                time.sleep(0.1)
