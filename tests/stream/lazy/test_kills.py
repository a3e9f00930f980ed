"""The process that serves a mount, and the registry, killed at random points while programs read: no wrong byte, and
every program is served or gets an error."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.settings import Size
from registry_pipelines.stream.lazy.mounting import end_mount, mounts
from registry_pipelines.stream.model import Stream
from tests.evidence.parts import Key
from tests.patience import patient
from tests.stream.hot.packing import cut, recording
from tests.stream.layers import pack
from tests.stream.lazy.mounts import need_fanotify, need_fuse
from tests.stream.lazy.starts import file
from tests.stream.releases import ESTARGZ, Layer, Streamer, push

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

KILLS_EACH = 20
LIMIT_S = patient(30)
"""A program that is not done by then hangs."""

PATIENCE_S = patient(0.5)
"""How long the command waits for a registry here, and readers for another command; a minute else."""

CARRIERS = ("fuse", "fanotify")

SERVE = f"""
from registry_pipelines.cli import main
from registry_pipelines.stream.lazy.fanotify import WatchedMount
from registry_pipelines.stream.lazy.opened import open_image
for function in (open_image.__wrapped__, WatchedMount.__init__):
    function.__kwdefaults__["patience_s"] = {PATIENCE_S}
main()
"""

REGISTRY = """
import sys
from pathlib import Path
from registry_pipelines.registry.embedded import EmbeddedServer, serve
server = EmbeddedServer(Path(sys.argv[1]), port=int(sys.argv[2]))
serve([server], ready=lambda servers: print(servers[0].port, flush=True))
"""

# Reads what it is told (random parts for as long as its input is open, or all), compares, and says how it went;
# of parts also that the first one was served.
# A read by a mapping that cannot be served ends it by SIGBUS.
READER = """
import json, mmap, os, random, select, sys
top, truth, how, seed = sys.argv[1:]
chance, counts = random.Random(seed), {"served": 0, "wrong": 0}
names = sorted(os.listdir(truth))
def look(name, start, size):
    with open(f"{truth}/{name}", "rb") as file:
        good = os.pread(file.fileno(), size, start)
    try:
        with open(f"{top}/data/{name}", "rb") as file:
            if how == "map" and good:
                with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
                    found = mapped[start : start + size]
            else:
                found = b""  # a read that meets an error behind its first bytes gives these
                while piece := os.pread(file.fileno(), size - len(found), start + len(found)):
                    found += piece
    except OSError as error:
        counts[str(error.errno)] = counts.get(str(error.errno), 0) + 1
        return
    counts["served" if found == good else "wrong"] += 1
    if found != good:
        print("wrong:", name, start, size, len(found), found.count(0), file=sys.stderr)
if how == "all":
    chance.shuffle(names)
    for name in names:
        look(name, 0, 1 << 30)
while how != "all" and not select.select([sys.stdin], [], [], 0.001)[0]:
    name = chance.choice(names)
    start = chance.randrange(os.stat(f"{truth}/{name}").st_size + 1)
    before = counts["served"]
    look(name, start, chance.choice([1, 700, 4096, 70_000, 1 << 20]))
    if counts["served"] and not before:
        print("reads", flush=True)
print(json.dumps(counts))
"""


class Scene:
    """A registry that can be killed, an image in it, and a node."""

    def __init__(self, folder: Path, key: Key, chance: random.Random, carrier: str) -> None:
        self.folder, self._key, self.chance, self.carrier = folder, key, chance, carrier
        self._tag = ""
        self._port, self._registry = 0, None
        self.truth, self.top = folder / "truth", folder / "top"
        self.start_registry()

    def fill_registry(self) -> None:
        """Push an image, and all that it may be mounted by."""
        self.truth.mkdir()
        stack = []
        for layer in range(2):
            files = []
            for number in range(60):
                size = self.chance.choice([0, 1, 511, 512, 5000, 40_000, 300_000, 700_000])
                content = self.chance.randbytes(size)
                (self.truth / f"{layer}-{number}").write_bytes(content)
                files.append(file(f"data/{layer}-{number}", content))
            tar = pack(files)
            stack.append(Layer(gzip.compress(tar, 1, mtime=0), tar))
        registry = DistributionRegistry(f"127.0.0.1:{self._port}")
        place = Place(registry, "team/app")
        release = push(place, *stack, tag="spans")
        streamer = Streamer(place, self.folder / "indexer", self._key.signer)
        streamer.convert(release, ESTARGZ, tag="spans")
        streamer.index(release, Stream(span_size=Size(64 << 10), min_layer_size=Size(1000)))
        some = {f"data/{path.name}": path.stat().st_size for path in sorted(self.truth.iterdir())[::3]}
        packed = cut(place, self.folder / "indexer", self._key, recording(release.digest, some))
        assert packed.pack is not None
        registry.close()

    def start_registry(self) -> None:
        command = [sys.executable, "-c", REGISTRY, str(self.folder / "registry"), str(self._port)]
        self._registry = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._registry.stdout is not None
        self._port = int(self._registry.stdout.readline())

    def kill_registry(self) -> None:
        assert self._registry is not None and self._registry.stdout is not None
        self._registry.kill()
        self._registry.wait()
        self._registry.stdout.close()

    def serve(self, *, same: bool = False) -> subprocess.Popen[str]:
        """The command that mounts; it says so on its output when it has. same: the image that was mounted last."""
        self._tag = self._tag if same else self.chance.choice(["spans", "spans-estargz"])
        how = [self.chance.choice(["--fill", "--no-fill", "--no-fill"]), self.chance.choice(["--pack", "--no-pack"])]
        command = [sys.executable, "-c", SERVE, "stream", "mount", f"127.0.0.1:{self._port}/team/app:{self._tag}"]
        command += [str(self.top), "--key", str(self._key.public), *how, "--carrier", self.carrier]
        environment = {**os.environ, "XDG_STATE_HOME": str(self.folder / "state"), "HOME": str(self.folder)}
        log = (self.folder / "serve.log").open("a")
        with log:
            return subprocess.Popen(
                command, env=environment, cwd=self.folder, stdout=subprocess.PIPE, stderr=log, text=True
            )

    def read(self, how: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-ISc", READER, str(self.top), str(self.truth), how, str(self.chance.random())]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def log(self) -> str:
        return (self.folder / "serve.log").read_text()

    def kill_holder(self) -> bool:
        """One of the two processes that keep readers from holes when the one that fills is killed."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                words = path.read_bytes().split(b"\0")
                if os.fsencode(self.top) in words and any(b"lazy.holder" in word for word in words):
                    os.kill(int(path.parent.name), signal.SIGKILL)
                    return True
        return False

    def wipe(self) -> None:
        """Forget all that the node has."""
        self.unmount()
        shutil.rmtree(self.folder / "state", ignore_errors=True)

    def unmount(self) -> None:
        for each in [each for each in mounts() if each.folder.is_relative_to(self.folder)]:
            end_mount(each.folder)

    def close(self) -> None:
        self.kill_registry()
        self.unmount()


def ended(reader: subprocess.Popen[str], told: Counter[str]) -> None:
    """Have a reader end; what it says is counted. A wrong byte, or one that hangs, fails."""
    with reader:
        try:
            output, errors = reader.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            state = Path(f"/proc/{reader.pid}/stack").read_text()
            reader.kill()
            raise AssertionError(f"a program hangs: {state}") from None
    if reader.returncode == -signal.SIGBUS:
        told["SIGBUS"] += 1
        return
    assert reader.returncode == 0 and "wrong" not in errors, errors
    told.update(json.loads(output))
    assert not told["wrong"], errors


@pytest.fixture
def scene(tmp_path: Path, key: Key, request: pytest.FixtureRequest) -> Iterator[Scene]:
    need_fuse()
    seed, carrier = request.param
    if carrier != "fuse":
        need_fanotify(tmp_path / "test")
    made = Scene(tmp_path, key, random.Random(seed), carrier)
    try:
        made.fill_registry()
        yield made
    finally:
        made.close()


@pytest.mark.parametrize(
    "scene",
    [(seed, carrier) for carrier in CARRIERS for seed in range(10)],
    indirect=True,
    ids=lambda each: f"{each[0]}-{each[1]}",
)
def test_kills_at_random_points(scene: Scene) -> None:
    told = Counter[str]()
    for _ in range(KILLS_EACH):
        one_kill(scene, told)
    print("\nkills:", KILLS_EACH, dict(told))
    assert told["served"] >= 2 * (KILLS_EACH - told["killed at start"]), "a mapping's end by SIGBUS counts nothing"


def one_kill(scene: Scene, told: Counter[str]) -> None:
    """One life of the process that serves, in which it or the registry is killed."""
    chance = scene.chance
    if chance.random() < 0.3:
        scene.wipe()
    with scene.serve() as server:
        assert server.stdout is not None
        try:
            if chance.random() < 0.15:  # while it starts
                time.sleep(chance.uniform(0, 0.8))
                told["killed at start"] += 1
                return
            line = server.stdout.readline()
            assert "is mounted on" in line, scene.log()
            readers = [scene.read(how) for how in ("part", "part", "map")]
            for reader in readers:  # else all would be killed before they read on a machine that is busy
                assert reader.stdout is not None and reader.stdout.readline() == "reads\n", scene.log()
            time.sleep(chance.uniform(0, 0.6))
            victim = chance.choice(["daemon", "registry", "both", *(["holder", "daemon"] * (scene.carrier != "fuse"))])
            if victim == "holder" and not scene.kill_holder():
                victim = "nobody: the file was complete"
            told[f"killed {victim}"] += 1
            if victim in ("registry", "both"):
                scene.kill_registry()
                time.sleep(chance.choice([0, 0.3, PATIENCE_S + 1]))
            if victim in ("daemon", "both"):
                server.kill()
                time.sleep(chance.uniform(0, 0.1))
            if victim in ("registry", "both"):
                scene.start_registry()
            if victim == "daemon" and scene.carrier != "fuse" and chance.random() < 0.7:
                with scene.serve(same=True) as other:  # it goes on where the first one was killed
                    try:
                        assert other.stdout is not None and "is mounted on" in other.stdout.readline(), scene.log()
                        told["taken over"] += 1
                        look_at_all(scene, told)
                    finally:
                        other.kill()
            for reader in readers:
                ended(reader, told)
            if victim in ("registry", "holder"):  # it goes on as if nothing had been
                look_at_all(scene, told)
        finally:
            server.kill()
    with suppress(OSError):
        assert scene.carrier != "fuse" or not any(scene.top.iterdir())


def look_at_all(scene: Scene, told: Counter[str]) -> None:
    """Every file is read to its end."""
    after = Counter[str]()
    ended(scene.read("all"), after)
    assert set(+after) == {"served"}, after
    told["all served"] += 1
