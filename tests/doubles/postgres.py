"""A Postgres server of one's own, reached by a socket in its folder, with a password that a URL has to escape."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PASSWORD = "s3cret@w/rd"
ESCAPED = "s3cret%40w%2Frd"


def find_programs() -> Path | None:
    """The folder with initdb and pg_ctl; Debian keeps them off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    here = shutil.which("initdb")
    return found[-1].parent if found else Path(here).parent if here else None


@contextmanager
def running_postgres(programs: Path) -> Iterator[str]:
    """A fresh cluster; its socket's folder. Postgres refuses to run as root."""
    folder = tempfile.mkdtemp(prefix="pg-", dir="/tmp")
    user: dict[str, object] = {}
    data, secret = f"{folder}/data", Path(folder, "password")
    secret.write_text(PASSWORD)
    if os.getuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
        shutil.chown(secret, "postgres", "postgres")
        user = {"user": "postgres", "group": "postgres"}

    def run(*command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, **user)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stderr

    login = ("-A", "scram-sha-256", "--pwfile", str(secret), "-U", "rp")
    run(str(programs / "initdb"), "-D", data, *login, "--no-sync")
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
    run(str(programs / "pg_ctl"), "-D", data, "-w", "-l", f"{folder}/log", "-o", options, "start")
    try:
        yield folder
    finally:
        run(str(programs / "pg_ctl"), "-D", data, "-w", "-m", "immediate", "stop")
        shutil.rmtree(folder)
