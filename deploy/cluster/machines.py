"""The machines of ``make cluster``, each a folder of its own with processes that know nothing of the others' files.

postgres, redis, registries (who serves the embedded ones), code (Dagster's code server), webserver, daemon, workers. A
process that ends by itself is started again, as a container would be. All listens on loopback; passwords are made anew
each time and reach processes in their environment alone, Redis's in its configuration file.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import yaml

from deploy.cluster.guard import Guard
from deploy.cluster.needs import HOST, find_program, free_ports, postgres_programs, postgres_user

TOP = Path(__file__).resolve().parents[2]
SETTINGS = TOP / "deploy" / "dagster" / "dagster.yaml"
LOCATION = "registry_pipelines"
AGAIN_S = 1.0
"""Seconds after which what ended is started again."""
STOP_S = 10.0
LOOK_S = 0.5

T = TypeVar("T")


class NotReady(Exception):
    """Something did not come up in time; the text has the end of its log."""


@dataclass
class Process:
    """One program of a machine, kept running until it is stopped. user: whom it runs as, where this is root."""

    name: str
    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    user: str = ""
    stop_signal: int = signal.SIGTERM
    guard: Guard | None = None
    running: subprocess.Popen[bytes] | None = None
    wanted: bool = False
    started: int = 0
    """How often it was started."""
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def log(self) -> Path:
        """What it prints."""
        return self.folder / f"{self.name}.log"

    def start(self) -> None:
        """Start it, and again whenever it ends, until it is stopped or killed."""
        with self._lock:
            self.wanted = True
            self.folder.mkdir(parents=True, exist_ok=True)
            if self.running is None or self.running.poll() is not None:
                self._start()

    def _start(self) -> None:
        as_user: dict[str, Any] = {"user": self.user, "group": self.user, "extra_groups": []} if self.user else {}
        with self.log.open("ab") as output:
            # Started with `&`, this process may ignore SIGINT, and Dagster's then ignore SIGTERM, too.
            command = ["env", "--default-signal=INT,TERM,QUIT", *self.command]
            self.running = subprocess.Popen(
                command, cwd=self.folder, env=dict(self.environment), stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True, **as_user,
            )  # fmt: skip
        self.started += 1
        if self.guard:
            self.guard.began(self.running.pid)

    def keep(self) -> None:
        """Start it again where it ended by itself."""
        with self._lock:
            if self.wanted and self.running is not None and self.running.poll() is not None:
                if self.guard:
                    self.guard.ended(self.running.pid)
                self._start()

    @property
    def alive(self) -> bool:
        """Whether it runs now."""
        return self.running is not None and self.running.poll() is None

    def kill(self) -> None:
        """Take the machine's power: the process and all that it started are gone at once, and stay so."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it, and what it started."""
        self._end(self.stop_signal)

    def _end(self, number: int) -> None:
        with self._lock:
            self.wanted = False
            if self.running is None:
                return
            with contextlib.suppress(ProcessLookupError):
                if number == signal.SIGKILL:
                    os.killpg(self.running.pid, number)
                else:
                    self.running.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.running.wait(STOP_S)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.running.pid, signal.SIGKILL)
            self.running.wait()
            if self.guard:
                self.guard.ended(self.running.pid)

    def signal_all(self, number: int) -> None:
        """Send a signal to the process and all that it started, where it runs."""
        if self.running is not None:
            os.killpg(self.running.pid, number)

    def last_words(self) -> str:
        """The end of what it printed."""
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""


class Cluster:
    """Postgres, Redis, registries, code server, webserver, daemon and workers on this machine, as on ten.

    config: the configuration, which is the same for all. folder: below it each machine has its own; it is made.
    workers, slots: how many workers, and runs at once of each. settings: what replaces parts of
    deploy/dagster/dagster.yaml. environment: what every process has besides. port: of the webserver; a free one when 0.
    patience: factor of every wait. Raises Missing before anything is started.
    """

    def __init__(
        self,
        config: Path,
        folder: Path,
        *,
        workers: int = 3,
        slots: int = 2,
        settings: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        port: int = 0,
        patience: float = 1.0,
    ) -> None:
        self.config, self.folder, self.patience = config.resolve(), folder.resolve(), patience
        self._programs = postgres_programs()
        self._redis = find_program("redis-server", "redis-server")
        self._dagster_settings = merged(yaml.safe_load(SETTINGS.read_text()), settings or {})
        self._dagster_settings["concurrency"]["runs"]["max_concurrent_runs"] = workers * slots
        self._postgres_port, self._redis_port, self._code_port, free = free_ports(4)
        self.port = port or free
        self._password, self._redis_password = secrets.token_hex(16), secrets.token_hex(16)
        self.database_url = f"postgresql://rp:{self._password}@{HOST}:{self._postgres_port}/registry_pipelines"
        self.dagster_url = f"postgresql+psycopg2://rp:{self._password}@{HOST}:{self._postgres_port}/dagster"
        self.redis_url = f"redis://:{self._redis_password}@{HOST}:{self._redis_port}/0"
        self._environment = {
            **os.environ,
            "REGISTRY_PIPELINES_CONFIG": str(self.config),
            "REGISTRY_PIPELINES_DATABASE": self.database_url,
            "REGISTRY_PIPELINES_BROKER": self.redis_url,
            "DAGSTER_POSTGRES_URL": self.dagster_url,
            "DAGSTER_LOGS": str(self.folder / "logs"),
            **(environment or {}),
        }
        self.workers = [self._worker(f"worker-{place}", slots) for place in range(1, workers + 1)]
        self.postgres = self._postgres_process()
        self.redis = self._redis_process()
        self.registries = self._process("registries", [self._tool("registry-pipelines"), "serve"], state=True)
        code = ["code-server", "start", "-m", "dagster_project.definitions", "-h", HOST, "-p", str(self._code_port)]
        self.code = self._process("code", [sys.executable, "-m", "dagster", *code])
        web = ["-w", str(self.folder / "workspace.yaml"), "-h", HOST, "-p", str(self.port)]
        self.webserver = self._process("webserver", [self._tool("dagster-webserver"), *web])
        self.daemon = self._process(
            "daemon", [self._tool("dagster-daemon"), "run", "-w", str(self.folder / "workspace.yaml")]
        )
        self._ending = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)

    @property
    def processes(self) -> list[Process]:
        """All of them, in the order they are started."""
        return [self.postgres, self.redis, self.registries, self.code, self.webserver, self.daemon, *self.workers]

    @property
    def url(self) -> str:
        """The webserver's address."""
        return f"http://{HOST}:{self.port}"

    def state(self, machine: str) -> Path:
        """A machine's own state folder."""
        return self.folder / machine / "state"

    def _tool(self, name: str) -> str:
        return str(Path(sys.executable).parent / name)

    def _process(self, name: str, command: Sequence[str], *, state: bool = False, **more: str) -> Process:
        """A process of our code on a machine of its own. state: it serves the registries, and all others are told."""
        home = self.folder / name
        environment = {
            **self._environment,
            "REGISTRY_PIPELINES_STATE": str(home / "state"),
            "DAGSTER_HOME": str(home / "dagster"),
            **({} if state else {"REGISTRY_PIPELINES_SERVED_BY": HOST}),
            **more,
        }
        return Process(name, command, home, environment)

    def _worker(self, name: str, slots: int) -> Process:
        command = ["-A", "dagster_project.worker", "worker", "-n", f"{name}@%h", "--concurrency", str(slots)]
        return self._process(name, [sys.executable, "-m", "celery", *command, "--loglevel", "WARNING"])

    def _postgres_process(self) -> Process:
        options = ["listen_addresses=" + HOST, f"port={self._postgres_port}", "unix_socket_directories=", "fsync=off"]
        command = [str(self._programs / "postgres"), "-D", str(self.folder / "postgres" / "data")]
        command += [part for option in options for part in ("-c", option)]
        # Of its signals INT is the one that waits for no client.
        return Process(
            "postgres",
            command,
            self.folder / "postgres",
            {**os.environ, "LC_ALL": "C"},
            postgres_user(),
            signal.SIGINT,
        )

    def _redis_process(self) -> Process:
        folder = self.folder / "redis"
        return Process("redis", [self._redis, str(folder / "redis.conf")], folder, dict(os.environ))

    def __enter__(self) -> Cluster:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._guard = Guard()
        for process in self.processes:
            process.guard = self._guard
        self._keeper.start()
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End everything, the last started first."""
        self._ending.set()
        ending = [threading.Thread(target=each.stop) for each in self.processes[2:]]
        for each in ending:
            each.start()
        for each in ending:
            each.join()
        for process in (self.redis, self.postgres):
            process.stop()
        self._keeper.join()
        self._guard.close()

    def _keep(self) -> None:
        while not self._ending.wait(AGAIN_S):
            for process in self.processes:
                process.keep()

    def _start(self) -> None:
        self._write_files()
        self._make_database()
        self.postgres.start()
        self.redis.start()
        self.registries.start()
        self._until("Postgres answers", self._postgres_answers, self.postgres)
        for name in ("dagster", "registry_pipelines"):
            self.query(f"CREATE DATABASE {name}", database="postgres")
        self._until("Redis answers", lambda: self.redis_client().ping(), self.redis)
        self._until("registries are served", lambda: " serves " in self.registries.last_words(), self.registries)
        self._share_keys()
        self._make_tables()
        self.code.start()
        for worker in self.workers:
            worker.start()
        self._until("the code server listens", lambda: _listens(self._code_port), self.code)
        self.webserver.start()
        self._until("the code location is loaded", self.is_loaded, self.webserver)
        self.daemon.start()
        self._until("every worker is at the queue", self._all_workers, self.workers[0] if self.workers else self.redis)

    def _write_files(self) -> None:
        for process in self.processes:
            process.folder.mkdir(parents=True, exist_ok=True)
            if "DAGSTER_HOME" in process.environment:
                home = process.folder / "dagster"
                home.mkdir(exist_ok=True)
                (home / "dagster.yaml").write_text(yaml.safe_dump(self._dagster_settings, sort_keys=False))
        server = {"host": HOST, "port": self._code_port, "location_name": LOCATION}
        (self.folder / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))
        conf = self.folder / "redis" / "redis.conf"
        conf.touch(mode=0o600)
        conf.write_text(
            f'bind {HOST}\nport {self._redis_port}\nrequirepass {self._redis_password}\nsave ""\nappendonly no\n'
            "maxmemory 64mb\nmaxmemory-policy noeviction\n"
        )

    def _make_database(self) -> None:
        if postgres_user() and (closed := closed_to_others(self.folder)):
            raise NotReady(
                f"{closed} is closed to other users, and Postgres, which does not run as root, needs its folder "
                "below it; name another one (--keep, or TMPDIR)"
            )
        data, secret = self.folder / "postgres" / "data", self.folder / "postgres" / "password"
        secret.touch(mode=0o600)
        secret.write_text(self._password)
        user = postgres_user()
        if user:
            for path in (self.folder / "postgres", secret):
                shutil.chown(path, user, user)
        command = [str(self._programs / "initdb"), "-D", str(data), "-A", "scram-sha-256", "--pwfile", str(secret)]
        as_user: dict[str, Any] = {"user": user, "group": user, "extra_groups": []} if user else {}
        done = subprocess.run(
            [*command, "-U", "rp", "--no-sync", "--no-locale", "-E", "UTF8"],
            cwd=self.folder / "postgres", capture_output=True, text=True, check=False, **as_user,
        )  # fmt: skip
        secret.unlink()
        if done.returncode:
            raise NotReady(f"initdb: {done.stderr or done.stdout}")

    def _postgres_answers(self) -> bool:
        return bool(self.query("SELECT 1", database="postgres"))

    def _share_keys(self) -> None:
        """The signing keys are a secret that every machine is given; who serves the registries made them here."""
        made = self.state("registries") / "keys"
        make_keys(self.config, self.state("registries"))
        for process in (self.code, self.webserver, self.daemon, *self.workers):
            state = self.state(process.name)
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
            if made.is_dir() and not (state / "keys").exists():
                shutil.copytree(made, state / "keys")

    def _make_tables(self) -> None:
        """Dagster's tables are made once, before several processes would make them at the same time."""
        code = "import dagster; dagster.DagsterInstance.get().dispose()"
        done = subprocess.run(
            [sys.executable, "-c", code], env=dict(self.daemon.environment), cwd=self.daemon.folder,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise NotReady(f"Dagster's tables cannot be made: {done.stderr[-2000:]}")

    def _all_workers(self) -> bool:
        return len(self.live_workers()) >= len(self.workers)

    def live_workers(self) -> dict[str, Any]:
        """Workers that answer through Redis, by name."""
        from celery import Celery

        with Celery("asking", broker=self.redis_url) as app:
            return dict(app.control.inspect(timeout=1).ping() or {})

    def redis_client(self) -> Any:
        """A client of the queue."""
        import redis

        return redis.Redis.from_url(self.redis_url)

    def query(self, statement: str, *parameters: object, database: str = "dagster") -> list[tuple[Any, ...]]:
        """Ask Postgres itself; an empty list for what gives no rows."""
        import psycopg

        url = f"postgresql://rp:{self._password}@{HOST}:{self._postgres_port}/{database}"
        with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
            found = connection.execute(statement, parameters or None)
            return found.fetchall() if found.description else []

    def why(self, run_id: str) -> str:
        """What Dagster keeps of how a run failed, or could not be launched; empty for none that did."""
        told = "event LIKE '%%FAILURE%%' OR event LIKE '%%SerializableErrorInfo%%'"
        found = self.query("SELECT event FROM event_logs WHERE run_id = %s AND (" + told + ")", run_id)  # noqa: S608 - ours
        return "\n".join(row[0] for row in found)

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """A GraphQL question to the webserver. Raises OSError where it does not answer, RuntimeError for an error."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30 * self.patience) as answer:
            found = json.load(answer)
        if found.get("errors"):
            raise RuntimeError(str(found["errors"])[:2000])
        return dict(found["data"])

    def is_loaded(self) -> bool:
        """Whether the webserver answers and knows the code location."""
        query = "{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError { __typename } } } } }"
        entries = self.ask(query)["workspaceOrError"]["locationEntries"]
        return [(each["locationOrLoadError"] or {}).get("__typename") for each in entries] == ["RepositoryLocation"]

    def _until(self, what: str, condition: Callable[[], Any], process: Process, *, seconds: float = 60) -> Any:
        try:
            return until(what, condition, seconds=seconds * self.patience)
        except NotReady as error:
            raise NotReady(f"{error}\n{process.name} said last:\n{process.last_words()}") from error


def make_keys(config: Path, state: Path) -> None:
    """The keys that a configuration has made at first use, as whoever uses it first would have made them."""
    from registry_pipelines.chain.keys import Keyring
    from registry_pipelines.config import load

    alone = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_PIPELINES_")}
    settings = load(config, {**alone, "REGISTRY_PIPELINES_STATE": str(state)})
    if settings.signing.generate:
        Keyring(settings).trusted()


def until(what: str, condition: Callable[[], T], *, seconds: float) -> T:
    """Look again until the condition holds; what it gave. Trouble on the way is no answer. Raises NotReady."""
    deadline, last = time.monotonic() + seconds, ""
    while time.monotonic() < deadline:
        try:
            if found := condition():
                return found
        except Exception as error:  # not there yet
            last = f": {error}"
        time.sleep(LOOK_S)
    raise NotReady(f"not within {seconds:.0f} s: {what}{last}")


def merged(settings: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with some replaced, section by section."""
    found = dict(settings)
    for name, value in over.items():
        old = found.get(name)
        found[name] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return found


def closed_to_others(folder: Path) -> Path | None:
    """The first of a folder and those above it that other users cannot go through; None where they can."""
    return next((each for each in [*reversed(folder.parents), folder] if not each.stat().st_mode & stat.S_IXOTH), None)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
