"""Postgres servers of one's own, reached by a socket in its folder, with a password that a URL has to escape."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

PASSWORD = "s3cret@w/rd"
ESCAPED = "s3cret%40w%2Frd"


def find_programs() -> Path | None:
    """The folder with initdb and pg_ctl; Debian keeps them off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    here = shutil.which("initdb")
    return found[-1].parent if found else Path(here).parent if here else None


class PostgresServer:
    """A fresh cluster, running, that can be stopped and started again. folder: where its socket is; the database
    ``postgres`` and the user ``rp`` are there. Postgres refuses to run as root."""

    def __init__(self, programs: Path, *, port: int = 0) -> None:
        """port: where it listens on 127.0.0.1, too; 0: by its socket alone."""
        self.folder = tempfile.mkdtemp(prefix="pg-", dir="/tmp")
        self._programs, self._data = programs, f"{self.folder}/data"
        self._user: dict[str, object] = {}
        secret = Path(self.folder, "password")
        secret.write_text(PASSWORD)
        if os.getuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
            shutil.chown(secret, "postgres", "postgres")
            self._user = {"user": "postgres", "group": "postgres"}
        login = ("-A", "scram-sha-256", "--pwfile", str(secret), "-U", "rp")
        self._run(str(programs / "initdb"), "-D", self._data, *login, "--no-sync")
        listen = f"-c listen_addresses=127.0.0.1 -c port={port}" if port else "-c listen_addresses=''"
        self._options = f"{listen} -c unix_socket_directories={self.folder} -c fsync=off"
        self.running = False
        self.start()

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        self._run(*self._control, "-l", f"{self.folder}/log", "-o", self._options, "start")
        self.running = True

    def stop(self) -> None:
        """Stop it at once, as a crash does: connections are cut, transactions under way are lost."""
        self._run(*self._control, "-m", "immediate", "stop")
        self.running = False

    @property
    def _control(self) -> tuple[str, ...]:
        return (str(self._programs / "pg_ctl"), "-D", self._data, "-w")

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, **self._user)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stderr

    def __enter__(self) -> PostgresServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running:
            self.stop()
        shutil.rmtree(self.folder)
