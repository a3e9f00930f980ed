"""``serve`` and ``dev``: processes that stay."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from registry_pipelines import interrupts
from registry_pipelines.chain.serving import ensure_registries, serve
from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json_now
from registry_pipelines.cli.output import (
    harmless,
)
from registry_pipelines.config import ENVIRONMENT_VARIABLE, Config, EmbeddedRegistry
from registry_pipelines.errors import InputError, LocalError, ToolMissing
from registry_pipelines.interrupts import CHILDREN
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.embedded import serve as serve_here
from registry_pipelines.versions import claim_state

CHILD_STOP_S = 1.0
"""How long Dagster gets to end its processes after TERM before the group is killed. It takes 2 s and more, which is for
its own order; what it keeps stands a kill, and its run monitoring tells of runs that were under way."""

LOG_NAME = "dev.log"
"""In Dagster's home."""

LAST_LINES = 10
_ERROR_LINE = re.compile(rb" - (?:ERROR|CRITICAL) - ")
"""As Dagster's processes write them: time, logger, level, message."""
_HEAD = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4} - ")
_COLOUR = re.compile(rb"\x1b\[[0-9;]*m")
"""The code server writes its lines in colours, into a file as well."""
_REPEATS = re.compile(rb" - RUN_FAILURE - .* Steps failed: | - Dependencies for step \S+ failed: ")
"""What follows from a failed step, which was shown."""
MOST_LINES = 8
"""Of an error's own text: a denial's reasons, and where a crash was."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)


@click.command("serve")
@click.option("--root", type=click.Path(path_type=Path), metavar="DIR", help="Serve one registry from this folder.")
@click.option("--port", type=click.IntRange(0, 65535), help="Its port; 0 is a free one.  [default: 5500]")
@click.option("--host", help="Address to listen on; of the configuration, or 127.0.0.1, unless told.")
@click.option("--tls-cert", type=click.Path(path_type=Path), metavar="FILE", help="PEM certificate chain: HTTPS.")
@click.option("--tls-key", type=click.Path(path_type=Path), metavar="FILE", help="PEM private key of --tls-cert.")
@click.option("--htpasswd", type=click.Path(path_type=Path), metavar="FILE", help="Accounts (bcrypt lines).")
@common
def serve_command(
    options: Options,
    root: Path | None,
    port: int | None,
    host: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    htpasswd: Path | None,
) -> None:
    """Serve the configuration's embedded registries, or one from --root, until Ctrl-C or TERM."""
    if root is None:
        if port is not None or tls_cert or tls_key or htpasswd:
            raise InputError("--port, --tls-cert, --tls-key and --htpasswd need --root")
        _serve_config(options, host or "")
        return
    if (tls_cert is None) != (tls_key is None):
        raise InputError("--tls-cert and --tls-key are given together or not at all")
    server = EmbeddedServer(
        root,
        host=host or "127.0.0.1",
        port=5500 if port is None else port,
        certificate=tls_cert,
        key=tls_key,
        htpasswd=htpasswd,
    )
    interrupts.mark_wanted()
    serve_here([server], ready=lambda servers: _announce(options, [{"name": "", "url": server.url, "root": str(root)}]))


def _serve_config(options: Options, listen: str) -> None:
    config = options.config()
    if not any(isinstance(each, EmbeddedRegistry) for each in config.registries.values()):
        raise InputError("the configuration has no embedded registry", where=str(config.path), do="Give --root DIR")
    with _signals() as ended, serve(config, listen=listen) as served:
        _announce(options, [{"name": each.name, "url": each.url, "root": str(each.root)} for each in served])
        ended.wait()


def _announce(options: Options, served: list[dict[str, str]]) -> None:
    """Say where the registries listen, on stdout, once all do; a program waits for this line."""
    if options.as_json:
        print_json_now({"registries": served})
        return
    for each in served:
        name = f"{each['name']}: " if each["name"] else ""
        click.echo(f"{name}{each['url']} serves {each['root']}")


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """An event that INT, TERM and QUIT set. A child started meanwhile has their default actions, even when this process
    was started with them ignored (by ``&`` in a script): handlers, unlike ignored signals, do not pass to a child."""
    ended = threading.Event()
    interrupts.mark_wanted()
    before = {number: signal.signal(number, lambda _number, _frame: ended.set()) for number in _SIGNALS}
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@click.command("dev")
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True, help="Port of the Dagster UI.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of the Dagster UI.")
@click.option("--verbose", is_flag=True, help="Show all that Dagster says; else its errors alone, and a file has it.")
@common
def dev(options: Options, port: int, host: str, verbose: bool) -> None:
    """Serve the Dagster UI with its daemon, and the embedded registries, until Ctrl-C or TERM."""
    config = options.config()
    home = prepare_dagster_home(config)
    # Of this Python: a program named dagster on PATH may be of another, which has none of our code.
    command = [sys.executable, "-m", "dagster", "dev", "-w", str(code_location() / "workspace.yaml")]
    command += ["-h", host, "-p", str(port)]
    environment = {**os.environ, ENVIRONMENT_VARIABLE: str(config.path), "DAGSTER_HOME": str(home)}
    with _signals() as ended, ensure_registries(config, until_unused=False) as served:
        _announce(options, [{"name": each.name, "url": each.url, "root": str(each.root)} for each in served])
        click.echo(f"Dagster UI: http://{host}:{port}", err=True)
        log = None if verbose else LogFile(home / LOG_NAME)
        if log:
            click.echo(f"Dagster's log: {log.path}", err=True)
        code = run_group(command, environment, ended, log=log)
    if code and not ended.is_set():
        last = "\n".join(["", *log.last_lines()]) if log else ""
        do = f"Read {log.path}" if log else "Its own messages above say why"
        raise LocalError(f"dagster ended with code {code}{last}", do=do)


class LogFile:
    """What a child says, in a file: the one before is kept as ``.1``. What it calls an error is shown at once."""

    def __init__(self, path: Path) -> None:
        """Raises LocalError."""
        self.path = path
        self._read, self._rest = 0, b""
        self._left = 0
        """Lines that are still to be shown of the error that is being told."""
        try:
            if path.exists():
                path.replace(path.with_name(f"{path.name}.1"))
            self.file = path.open("ab")
        except OSError as error:
            raise LocalError(f"the log cannot be written: {error.strerror}", where=str(path)) from error

    def look(self) -> None:
        """Show the errors among what was said since the last look."""
        with self.path.open("rb") as file:
            file.seek(self._read)
            said = self._rest + file.read()
            self._read = file.tell()
        *lines, self._rest = said.split(b"\n")
        for line in (_COLOUR.sub(b"", each) for each in lines):
            if _HEAD.match(line):
                wanted = _ERROR_LINE.search(line) and not _REPEATS.search(line)
                self._left = 1 + MOST_LINES if wanted else 0
            if self._left and line.strip():
                click.echo(harmless(line.decode(errors="replace")), err=True)
                self._left -= 1

    def last_lines(self) -> list[str]:
        """The end of what was said, for who asks why it ended."""
        with self.path.open("rb") as file:
            file.seek(max(0, self.path.stat().st_size - 4096))
            text = file.read(4096).decode(errors="replace")
        return [f"  {harmless(line)}" for line in text.splitlines()[-LAST_LINES:]]


def run_group(
    command: list[str], environment: Mapping[str, str], ended: threading.Event, *, log: LogFile | None = None
) -> int:
    """Run a program as the leader of its own process group until it ends or ``ended`` is set; then end the whole group.

    After KILL Dagster's webserver and daemon live on and hold the port, so it is always the group that is ended.
    log: for what it prints, a file, so that it goes on when we are killed; else it prints where we do. Returns the exit
    code.
    """
    output = log.file if log else None
    process = subprocess.Popen(
        command, env=dict(environment), start_new_session=True, stdout=output, stderr=output and subprocess.STDOUT
    )
    CHILDREN.add(process, lambda: os.killpg(process.pid, signal.SIGKILL))
    try:
        while process.poll() is None and not ended.wait(0.2):
            if log:
                log.look()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(CHILD_STOP_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with suppress(ProcessLookupError):  # every process of the group has ended
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        CHILDREN.discard(process)
        if log:
            log.look()
            log.file.close()
    return code


def code_location() -> Path:
    """The folder of the package that Dagster loads. Raises ToolMissing."""
    location = importlib.util.find_spec("dagster_project")
    if location is None or not location.submodule_search_locations:
        raise ToolMissing("the code location dagster_project is not installed", do="Install the project again, whole")
    return Path(location.submodule_search_locations[0])


def prepare_dagster_home(config: Config) -> Path:
    """Dagster's home: ``$DAGSTER_HOME``, or ``dagster`` below the state folder, made with our settings when it is new.

    Raises ToolMissing when Dagster or our code location is not installed, StateTooNew.
    """
    if importlib.util.find_spec("dagster") is None:
        raise _dagster_missing()
    location = code_location()
    claim_state(config.state)
    home = Path(os.environ.get("DAGSTER_HOME") or config.state / "dagster").absolute()
    settings = location / "instance.yaml"
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not (home / "dagster.yaml").exists():
            (home / "dagster.yaml").write_bytes(settings.read_bytes())
    except OSError as error:
        raise LocalError(f"cannot be prepared: {error.strerror}", where=str(home)) from error
    return home


def _dagster_missing() -> ToolMissing:
    return ToolMissing("Dagster is not installed", do="Install it: pip install 'registry-pipelines[dagster]'")


COMMANDS = [serve_command, dev]
