"""Every long command ends at once after Ctrl-C or TERM, whatever it waits for, and leaves no process behind.

A proxy holds one answer of a registry, or an index holds pip: the signal comes while the command waits for that, in the
thread that asks. What the test waits for is the end; how long that takes is printed by the long test.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from registry_pipelines.chain import Chain
from registry_pipelines.config import load
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from tests.build.wheels import make_wheel
from tests.chain.fleet import push, write_advisory
from tests.cli.test_bad_input import PROGRAM
from tests.doubles.fault_registry import FaultRegistry, HoldAnswer
from tests.patience import patient

BOUND_S = patient(20)
"""Where nobody waits for what hangs, two seconds; the answers are held for longer than this."""

SETTINGS = """\
registries:
  near: {{kind: distribution, host: "{near}"}}
  away: {{kind: distribution, host: "{away}"}}
images:
  app: {{registry: near, repository: team/app, targets: [away]}}
  made:
    registry: near
    repository: team/made
    build: {{version: v1, base: near/team/app:v1, python: "3.11", libc: none, platforms: [linux/amd64],
      requirements: [goodwheel], {wheels}}}
targets:
  away: {{registry: away}}
mirrors:
  airgap: {{to: away, prefix: in, images: [app], upstreams: [{{image: near/up/stream, tags: ["*"]}}]}}
syncs:
  all: {{source: near, repositories: ["up/*"], targets: [away]}}
collect: {{recent: 0s}}
retention:
  - {{registry: near, repositories: ["old/*"], keep_newest: 1, keep_days: 0}}
signing: {{generate: true}}
advisories: {{source: advisories}}
"""


@dataclass
class World:
    """Two registries behind proxies, and a configuration whose image was promoted, so that every stage has work."""

    folder: Path
    near: FaultRegistry
    away: FaultRegistry
    release: Release
    released: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def holding(self, where: str, method: str, target: str) -> Iterator[Callable[[], bool]]:
        """Hold the answers to these requests; the yielded says whether one is held."""
        proxy, release = getattr(self, where), threading.Event()
        proxy.reset_counts()
        proxy.play(method, target, HoldAnswer(release))
        try:
            yield lambda: any(each.fault and not each.status for each in proxy.seen)
        finally:
            release.set()
            proxy.clear()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    with ExitStack() as stack:
        servers = [stack.enter_context(EmbeddedServer(folder / name)) for name in ("near", "away")]
        near, away = (stack.enter_context(FaultRegistry(server.address)) for server in servers)
        make_wheel(folder / "wheels", "goodwheel")
        write_advisory(folder / "advisories")
        path = folder / "registry-pipelines.yaml"
        path.write_text(SETTINGS.format(near=near.address, away=away.address, wheels="wheels: wheels"))
        (folder / "index.yaml").write_text(SETTINGS.format(near=near.address, away=away.address, wheels="user: root"))
        chain = Chain(load(path, {}))
        made = push(chain.place("app"), "v1")
        for number in range(3):
            for repository in ("up/stream", "old/stream"):  # what a sync or a mirror has still to bring elsewhere stays
                push(Place(chain.registry("near"), repository), f"1.{number}", version=f"{number}", provenance=False)
        release = Release("app", "v1", made.digest)
        for stage in (chain.sbom, chain.vulnerabilities, chain.sign, chain.judge, chain.promote):
            assert stage(release).ok
        yield World(folder, near, away, release)


@dataclass
class Ended:
    """How a command ended after the signal."""

    code: int
    said: str
    seconds: float
    left: list[str]


def stop(
    command: Sequence[str],
    folder: Path,
    waits: Callable[[], bool],
    how: int = signal.SIGINT,
    *,
    first: int = 0,
    **environment: str,
) -> Ended:
    """Start a command, send the signal as soon as it waits for what is held, and wait for its end. first: a signal
    that comes before."""
    mark = uuid.uuid4().hex
    running = subprocess.Popen(
        [*PROGRAM, *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=folder,
        env={**os.environ, "XDG_STATE_HOME": str(folder / "own"), "REGISTRY_PIPELINES_TEST_MARK": mark, **environment},
    )  # fmt: skip
    with running:
        try:
            until = time.monotonic() + BOUND_S
            while not waits():
                assert running.poll() is None and time.monotonic() < until, f"it came not so far ({running.poll()})"
                time.sleep(0.005)
            if first:
                running.send_signal(first)
            running.send_signal(how)
            sent_at = time.monotonic()
            _, said = running.communicate(timeout=BOUND_S)
            seconds = time.monotonic() - sent_at
        finally:
            running.kill()
    return Ended(running.returncode, said, seconds, marked(mark))


def marked(mark: str) -> list[str]:
    """Command lines of living processes that were started with this mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes() and " Z " not in (folder / "stat").read_text():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:200])
        except OSError:
            continue
    return found


def is_prompt(ended: Ended, how: int = signal.SIGINT) -> None:
    word = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}[signal.Signals(how)]
    assert (ended.code, ended.left) == (128 + how, []), ended.said
    assert "Traceback" not in ended.said and "error" not in ended.said.lower(), ended.said
    assert ended.said.splitlines()[-1] == word and ended.said.count(word) == 1, ended.said


BLOB, MANIFEST, UPLOAD = r".*/blobs/sha256:.*", r".*/manifests/.*", r".*/blobs/uploads/.*"
HELD = {
    "copy: content": (["copy", "near/team/app:v1", "away/copied/{}"], "near", "GET", BLOB),
    "copy: upload": (["copy", "near/team/app:v1", "away/copied/{}"], "away", "P.*", UPLOAD),
    "copy: manifest": (["copy", "near/team/app:v1", "away/copied/{}"], "away", "PUT", MANIFEST),
    "verify-copy": (["verify-copy", "near/team/app:v1", "near/team/app:v1"], "near", "HEAD", BLOB),
    "inspect": (["inspect", "near/team/app:v1"], "near", "GET", MANIFEST),
    "sync: tags": (["sync", "all"], "near", "GET", ".*/tags/list.*"),
    "sync: content": (["sync", "all"], "near", "GET", BLOB),
    "releases": (["releases"], "near", "GET", ".*/tags/list.*"),
    "build: upload": (["build", "made"], "near", "POST", UPLOAD),
    "sbom": (["sbom", "app:v1", "--config", "{}.yaml"], "near", "GET", BLOB),
    "scan": (["scan", "app:v1"], "near", "GET", BLOB),
    "sign": (["sign", "app:v1"], "near", "GET", ".*/referrers/.*"),
    "verify": (["verify", "app:v1"], "near", "GET", ".*/referrers/.*"),
    "judge": (["judge", "app:v1"], "near", "GET", ".*/referrers/.*"),
    "promote": (["promote", "app:v1"], "near", "GET", ".*/referrers/.*"),
    "replicate": (["replicate", "app:v1"], "away", "P.*", UPLOAD),
    "mirror": (["mirror", "airgap"], "away", "P.*", UPLOAD),
    "collect: plan": (["collect", "plan", "near"], "near", "GET", MANIFEST),
    "collect: apply": (["collect", "apply", "near", "--now"], "near", "DELETE", ".*"),
}  # fmt: skip
"""By name: the command, at which registry which request's answer is held. ``{}`` is another word for each run."""


def configured(command: Sequence[str], world: World) -> list[str]:
    """The command, for this run: a state folder of its own where one that has worked already would not ask."""
    name = uuid.uuid4().hex
    text = (world.folder / "registry-pipelines.yaml").read_text()
    path = world.folder / f"{name}.yaml"
    key = world.folder / ".registry-pipelines" / "keys" / "signing.key"
    path.write_text(f"state: states/{name}\n" + text.replace("generate: true", f"key: {key}"))
    found = [word.replace("{}.yaml", str(path)).replace("{}", name) for word in command]
    return found if "--config" in found else [*found, "--config", str(path)]


@pytest.mark.parametrize("name", HELD)
def test_an_interrupt_ends_a_command_that_waits_for_a_registry(name: str, world: World) -> None:
    command, where, method, target = HELD[name]
    with world.holding(where, method, target) as waits:
        is_prompt(stop(configured(command, world), world.folder, waits))


def test_term_ends_a_command_like_an_interrupt(world: World) -> None:
    command, where, method, target = HELD["scan"]
    with world.holding(where, method, target) as waits:
        is_prompt(stop(configured(command, world), world.folder, waits, signal.SIGTERM), signal.SIGTERM)


@contextmanager
def silent() -> Iterator[tuple[str, Callable[[], bool]]]:
    """The address of a server that takes connections and never answers, and whether somebody asked."""
    asked: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)

        def waits() -> bool:
            with suppress(BlockingIOError):
                asked.append(server.accept()[0])
            return bool(asked)

        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/simple/", waits
        finally:
            for each in asked:
                each.close()


def pip_settings(index: str) -> dict[str, str]:
    return {"PIP_INDEX_URL": index, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_PROXY": "*", "NO_PROXY": "*"}


def test_pip_ends_with_the_build_that_waits_for_it(world: World) -> None:
    command = ["build", "made", "--config", str(world.folder / "index.yaml")]
    with silent() as (index, waits):
        is_prompt(stop(command, world.folder, waits, **pip_settings(index)))


def test_interpreters_that_compile_end_with_the_build(world: World, tmp_path: Path) -> None:
    """As many as there are cores, each with a minute's work, and more that wait for their turn."""
    slow = "\n".join(f"a{number} = [{number}, {{'x': {number}}}, lambda: {number}]" for number in range(35_000))
    files = {f"goodwheel/m{number}.py": slow.encode() for number in range(16)}
    make_wheel(tmp_path / "wheels", "goodwheel", files=files, level=1)
    path = tmp_path / "registry-pipelines.yaml"
    path.write_text((world.folder / path.name).read_text())
    seen: set[int] = set()

    def compiling() -> bool:
        seen.update(pid for pid in living_children() if "marshal" in command_of(pid))
        return bool(seen)

    ended = stop(["build", "made", "--config", str(path)], tmp_path, compiling)
    is_prompt(ended)
    assert not [pid for pid in seen if "marshal" in command_of(pid)]


def living_children() -> list[int]:
    """Processes below this one."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found = {os.getpid()}
    for _ in range(4):
        found |= {pid for pid, parent in parents.items() if parent in found}
    return sorted(found - {os.getpid()})


def command_of(pid: int) -> str:
    """Empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


HOLDS = """\
import sqlite3, sys, threading
from registry_pipelines import interrupts
from registry_pipelines.interrupts import prompt_end
interrupts.TOGETHER_S = 0
with prompt_end({wind_up}):
    held, locked = sqlite3.connect(sys.argv[1]), sqlite3.connect(sys.argv[1], timeout=600)
    held.execute("BEGIN EXCLUSIVE")
    try:
        print("now", flush=True)
        {first}
    finally:
        print("again", flush=True)
        locked.execute("BEGIN EXCLUSIVE")
"""
"""The main thread waits for a lock, in C, where Python hears no signal."""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_does_not_hear_ends_all_the_same(how: int, tmp_path: Path) -> None:
    code = HOLDS.format(wind_up=0.2, first='locked.execute("BEGIN EXCLUSIVE")')
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "file")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None and running.stdout.readline() == "now\n"
        running.send_signal(how)
        _, said = running.communicate(timeout=BOUND_S)
    assert (running.returncode, said) == (128 + how, "interrupted\n" if how == signal.SIGINT else "terminated\n")


def test_a_second_interrupt_does_not_wait_for_what_winds_up(tmp_path: Path) -> None:
    code = HOLDS.format(wind_up=600, first="threading.Event().wait()")
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "file")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None and running.stdout.readline() == "now\n"
        running.send_signal(signal.SIGINT)
        assert running.stdout.readline() == "again\n"
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=BOUND_S)
    assert (running.returncode, said) == (130, "interrupted\n")


WINDS_UP = """\
import sys, threading
from registry_pipelines import interrupts
interrupts.TOGETHER_S = 600
with interrupts.prompt_end(600):
    try:
        print("now", flush=True)
        threading.Event().wait()
    finally:
        print(sys.stdin.readline(), flush=True)
"""


def test_the_same_signal_twice_at_once_is_one() -> None:
    """As ``timeout`` sends it: to its child, and to the group in which both are."""
    with subprocess.Popen(
        [sys.executable, "-c", WINDS_UP], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as running:  # fmt: skip
        assert running.stdout is not None and running.stdout.readline() == "now\n"
        for _ in range(3):
            running.send_signal(signal.SIGTERM)
            time.sleep(0.05)  # else the kernel makes one of them
        said, _ = running.communicate("wound up", timeout=BOUND_S)
    assert (running.returncode, said) == (128 + signal.SIGTERM, "wound up\n")


def test_an_interrupt_that_was_ignored_from_the_start_stays_so(world: World) -> None:
    """As a shell starts a job with ``&``; TERM ends it."""
    command, where, method, target = HELD["scan"]
    ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with world.holding(where, method, target) as waits:
            ended = stop(configured(command, world), world.folder, waits, signal.SIGTERM, first=signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, ignored)
    is_prompt(ended, signal.SIGTERM)


@pytest.mark.long
def test_how_long_an_interrupt_takes(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Printed, not judged: on an idle machine each is below two seconds."""
    lines = []
    for name, (command, where, method, target) in HELD.items():
        with world.holding(where, method, target) as waits:
            ended = stop(configured(command, world), world.folder, waits)
        is_prompt(ended)
        lines.append(f"{ended.seconds:5.2f} s  {name}")
    with silent() as (index, waits):
        command = ["build", "made", "--config", str(world.folder / "index.yaml")]
        lines.append(f"{stop(command, world.folder, waits, **pip_settings(index)).seconds:5.2f} s  build: pip")
    with capsys.disabled():
        print("\nFrom Ctrl-C to the end:", *lines, sep="\n")
