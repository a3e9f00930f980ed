"""Postgres servers of one's own, reached by a socket in its folder, with a password that a URL has to escape."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from pathlib import Path
from types import TracebackType

from tests.doubles.wire import Listener
from tests.patience import until
from tests.ports import free_ports

PASSWORD = "s3cret@w/rd"
ESCAPED = "s3cret%40w%2Frd"


def find_programs() -> Path | None:
    """The folder with initdb and pg_ctl; Debian keeps them off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    here = shutil.which("initdb")
    return found[-1].parent if found else Path(here).parent if here else None


class PostgresServer:
    """A fresh cluster, running, that can be stopped and started again. folder: where its socket is; the database
    ``postgres`` and the user ``rp`` are there. port: also on this port of loopback, for who knows no sockets. Postgres
    refuses to run as root."""

    def __init__(self, programs: Path, port: int = 0) -> None:
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
        self._options = (
            f"-c listen_addresses={'127.0.0.1' if port else repr('')} -c port={port or 5432}"
            f" -c unix_socket_directories={self.folder} -c fsync=off"
        )
        self.running = False
        self._changing = threading.Lock()
        self.start()

    def start(self) -> None:
        """Start it, and wait until it takes connections; a stop that is under way is over first."""
        with self._changing:
            self._run(*self._control, "-l", f"{self.folder}/log", "-o", self._options, "start")
            self.running = True

    def stop(self) -> None:
        """Stop it at once, as a crash does: connections are cut, transactions under way are lost."""
        with self._changing:
            self._run(*self._control, "-m", "immediate", "stop")
            self.running = False

    def freeze(self) -> None:
        """As when its disk hangs: connections stay, nobody is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        main = int(Path(self._data, "postmaster.pid").read_text().split()[0])
        for each in [main, *map(int, Path(f"/proc/{main}/task/{main}/children").read_text().split())]:
            with contextlib.suppress(ProcessLookupError):  # one that served a connection has just ended
                os.kill(each, number)

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
            self.thaw()
            self.stop()
        shutil.rmtree(self.folder)


class PgBouncer:
    """PgBouncer in transaction mode before a Postgres server: each transaction may be on another of two connections.
    Gives the address without the name of the database. folder: of the server's socket."""

    def __init__(self, program: str, folder: str) -> None:
        self._program, self._server = program, folder
        self.folder = Path(tempfile.mkdtemp(prefix="pgb-", dir="/tmp"))

    def __enter__(self) -> str:
        [port] = free_ports(1)
        (self.folder / "users").write_text(f'"rp" "{PASSWORD}"\n')
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": port,
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": self.folder / "users",
            "pool_mode": "transaction",
            "default_pool_size": 2,
            "pidfile": self.folder / "pid",
        }
        lines = [f"{name} = {value}" for name, value in settings.items()]
        text = "\n".join(["[databases]", f"* = host={self._server}", "[pgbouncer]", *lines])
        (self.folder / "settings").write_text(text + "\n")
        user: dict[str, object] = {}
        if os.getuid() == 0:  # it refuses to run as root
            user = {"user": "postgres", "group": "postgres"}
            for each in (self.folder, *self.folder.iterdir()):
                shutil.chown(each, "postgres", "postgres")
        command = [self._program, "--quiet", str(self.folder / "settings")]
        self._process = subprocess.Popen(command, **user)  # type: ignore[call-overload]
        until(lambda: _listens(port))
        return f"postgresql://rp:{ESCAPED}@127.0.0.1:{port}"

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self.folder)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


class LostCommits:
    """A TCP proxy before a Postgres server. ``lose(n)``: the next so many commits are done, and their answer is lost
    with the connection. folder: of the server's socket. address: host and port."""

    def __init__(self, folder: str) -> None:
        self._socket = f"{folder}/.s.PGSQL.5432"
        self._listener = Listener(self._serve)
        self.address = self._listener.address
        self.lost = 0
        self._to_lose = 0
        self._lock = threading.Lock()

    def lose(self, count: int) -> None:
        """See the class."""
        with self._lock:
            self._to_lose = count

    def _serve(self, down: socket.socket) -> None:
        up = self._listener.adopt(socket.socket(socket.AF_UNIX))
        up.connect(self._socket)
        lost = threading.Event()
        self._listener.spawn(lambda: self._answer(up, down, lost))
        try:
            while block := down.recv(65536):
                with self._lock:
                    if b"COMMIT" in block and self._to_lose:
                        self._to_lose -= 1
                        self.lost += 1
                        lost.set()
                up.sendall(block)
        finally:
            with contextlib.suppress(OSError):
                up.shutdown(socket.SHUT_RDWR)
            self._listener.release(up)

    def _answer(self, up: socket.socket, down: socket.socket, lost: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while (block := up.recv(65536)) and not lost.is_set():
                down.sendall(block)
        with contextlib.suppress(OSError):
            down.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> LostCommits:
        self._listener.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.stop()
