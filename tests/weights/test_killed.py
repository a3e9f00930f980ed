"""SIGKILL of the real command line in the middle of a push and of a pull; every byte is counted."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry_pipelines.errors import NotFound
from registry_pipelines.evidence.keys import generate_key
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.blob.memory import BUDGET_BYTES, PART_BYTES
from registry_pipelines.weights.reading import FILES_AT_ONCE
from registry_pipelines.weights.staging import staged_in
from tests.anatomy.baked_images import safetensors
from tests.doubles.link import Link
from tests.scan.images import push_image
from tests.weights.conftest import call, done, files_of, noise

COMMAND = [sys.executable, "-c", "from registry_pipelines.cli import main; main()", "weights"]
OVERHEAD_BYTES = 100_000
"""Requests and answers of one run."""


class Runs:
    """The command line in processes of their own, through a link that counts and breaks."""

    def __init__(self, state: Path, link: Link) -> None:
        self.state, self.link = state, link

    def start(self, *words: object, file_limit: int = -1) -> subprocess.Popen[bytes]:
        """file_limit: bytes that a file may have, as where a disk is full; -1 for no limit."""
        environment = {**os.environ, "XDG_STATE_HOME": str(self.state)}
        return subprocess.Popen(
            [*COMMAND, *map(str, words), "--quiet"],
            stdout=subprocess.PIPE,
            cwd=self.state,
            env=environment,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit)),
        )

    def killed(self, direction: str, byte: int, *words: object) -> None:
        """Killed when so many bytes had passed, in all."""
        self.link.break_at(direction, byte, "silent")  # type: ignore[arg-type]
        process = self.start(*words)
        self.link.wait_until_broken(lambda: process.poll() is not None)
        assert process.poll() is None, "it ended before it was killed"
        process.send_signal(signal.SIGKILL)
        self.link.mend()
        process.communicate()

    def end(self, *words: object, code: int = 0, file_limit: int = -1) -> None:
        process = self.start(*words, file_limit=file_limit)
        assert bool(process.communicate()[0]) is (code == 0)
        assert process.returncode == code


@pytest.fixture
def runs(docker_address: str, tmp_path: Path) -> Iterator[Runs]:
    (tmp_path / "state").mkdir()
    with Link(docker_address) as link:
        yield Runs(tmp_path / "state", link)


def write(folder: Path, files: int, size: int) -> Path:
    """So many files of a size, which is a multiple of 500 kB."""
    folder.mkdir()
    for number in range(files):
        (folder / f"{number:03}.gguf").write_bytes(noise(500_000, number) * (size // 500_000))
    return folder


LONG = [pytest.mark.long, pytest.mark.timeout(1800)]


@pytest.mark.peer("docker-registry")
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("size", "kills"), [(40_000_000, 1), pytest.param(800_000_000, 12, marks=LONG)])
def test_a_push_goes_on_and_nothing_has_a_tag_before(
    runs: Runs,
    docker_address: str,
    tmp_path: Path,
    client: Callable[[str], DistributionRegistry],
    size: int,
    kills: int,
) -> None:
    folder, picks, step = write(tmp_path / "m", 1, size), random.Random(22), size // (kills + 1)
    reference = f"{runs.link.address}/m:1"
    for kill in range(kills):
        runs.killed("up", (kill + 1) * step + picks.randrange(step // 2), "push", folder, reference)
        with pytest.raises(NotFound):
            client(docker_address).resolve("m", "1")
    runs.end("push", folder, reference)
    assert client(docker_address).resolve("m", "1")
    assert runs.link.up - size <= kills * PART_BYTES + (kills + 1) * OVERHEAD_BYTES


@pytest.mark.peer("docker-registry")
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("files", "size", "kills"),
    [(30, 1_500_000, 1), pytest.param(1, 800_000_000, 6, marks=LONG), pytest.param(8, 100_000_000, 6, marks=LONG)],
    ids=["many", "one", "large"],
)
def test_a_pull_goes_on_and_the_folder_is_as_it_was_before(
    runs: Runs, docker_address: str, tmp_path: Path, files: int, size: int, kills: int
) -> None:
    """What was on its way comes again: a file of each of eight at most, or the memory for parts of large ones."""
    folder, node, picks = write(tmp_path / "m", files, size), tmp_path / "node", random.Random(22)
    reference, step = f"{runs.link.address}/m:1", files * size // (kills + 1)
    done("push", folder, f"{docker_address}/m:1")
    node.mkdir()
    (node / "000.gguf").write_bytes(b"mine")
    before = runs.link.down
    for kill in range(kills):
        runs.killed("down", before + (kill + 1) * step + picks.randrange(step // 2), "pull", reference, "--to", node)
        assert files_of(node) == {"000.gguf": b"mine"}
    runs.end("pull", reference, "--to", node)
    again = runs.link.down - before - files * size
    assert again <= kills * min(FILES_AT_ONCE * size, BUDGET_BYTES + 6 * PART_BYTES) + (kills + 1) * OVERHEAD_BYTES
    assert again < kills * step
    assert files_of(node) == files_of(folder)
    assert (node / "weights.json").exists()


@pytest.mark.peer("docker-registry")
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("size", "kills"),
    [
        ([2_000_000, 20_000_000], [14_000_000]),
        pytest.param([300_000_000] * 3, [5 << 26, 10 << 26], marks=LONG),
    ],
    ids=["small", "large"],
)
def test_weights_come_out_of_a_layer_and_nothing_is_sent_twice(
    runs: Runs, docker_address: str, address: str, tmp_path: Path, size: list[int], kills: list[int]
) -> None:
    """One layer, compressed as a whole: the second run reads it from its beginning, and sends what the target lacks.
    The part that is on its way at a kill arrives: the courier outlives it."""
    content = {f"m/{number}.safetensors": safetensors(each, seed=number) for number, each in enumerate(size)}
    push_image(Place(DistributionRegistry(address), "app"), [content], tag="1")
    words = ("out", f"{address}/app:1", "--to", f"{runs.link.address}/m:1")
    for kill in kills:
        runs.killed("up", kill, *words)
        with pytest.raises(NotFound):
            DistributionRegistry(docker_address).resolve("m", "1")
    runs.end(*words)
    whole = sum(map(len, content.values()))
    assert runs.link.up - whole <= (len(kills) + 1) * OVERHEAD_BYTES
    done("pull", f"{docker_address}/m:1", "--to", tmp_path / "back")
    assert files_of(tmp_path / "back") == {name.removeprefix("m/"): each for name, each in content.items()}


@pytest.mark.peer("docker-registry")
@pytest.mark.timeout(120)
def test_a_disk_that_is_full_in_the_middle(runs: Runs, docker_address: str, tmp_path: Path) -> None:
    """What came is kept for the next pull; the folder is as it was."""
    folder, node = write(tmp_path / "m", 1, 20_000_000), tmp_path / "node"
    (folder / "config.json").write_text("{}")
    reference = f"{runs.link.address}/m:1"
    done("push", folder, f"{docker_address}/m:1")
    runs.end("pull", reference, "--to", node, code=9, file_limit=10_000_000)
    assert files_of(node) == {}
    before = runs.link.down
    runs.end("pull", reference, "--to", node)
    assert files_of(node) == files_of(folder)
    assert runs.link.down - before < 20_000_000


DIES = """
import os, signal, sys
from registry_pipelines.oci import files

def dies(descriptor, temporary, target):
    if target.name == "{name}":
        os.kill(os.getpid(), signal.SIGKILL)
    put(descriptor, temporary, target)

put, files.install_file = files.install_file, dies
from registry_pipelines.cli import main
main(["weights", *sys.argv[1:], "--quiet"])
"""
"""The command line, killed between the content of a small file and its name."""


@pytest.mark.parametrize("command", ["pull", "pull --signed", "sign", "out"])
def test_a_small_file_that_is_half_written_is_no_file_of_the_model(address: str, tmp_path: Path, command: str) -> None:
    """It would be told, signed and sent with the model for ever."""
    folder, key, node = write(tmp_path / "m", 2, 500_000), generate_key(tmp_path / "signer.pem"), tmp_path / "node"
    done("push", folder, f"{address}/m:1")
    done("sign", f"{address}/m:1", "--key", key.private)
    push_image(Place(DistributionRegistry(address), "app"), [{"m/1.safetensors": safetensors(2_000_000)}], tag="1")
    words = {
        "pull": ("pull", f"{address}/m:1", "--to", node),
        "pull --signed": ("pull", f"{address}/m:1", "--to", node, "--signed", "--key", key.public),
        "sign": ("sign", folder, "--key", key.private),
        "out": ("out", f"{address}/app:1", "--to", node),
    }[command]
    name = "model.sig" if "sign" in command else "weights.json"
    ran = subprocess.run([sys.executable, "-c", DIES.format(name=name), *map(str, words)], check=False)
    assert ran.returncode == -signal.SIGKILL
    place = folder if command == "sign" else node
    assert not (place / name).exists()
    assert set(files_of(place)) == ({"1.safetensors"} if command == "out" else {"000.gguf", "001.gguf"})
    done(*words)
    assert (place / name).exists() and not (place / ".registry-pipelines").exists()


TEARS = """
import os, signal, sys
import obstore

def put(client, key, content, **more):
    if key.endswith(".gguf"):
        open(os.path.join(client.prefix, key + "#1"), "wb").write(b"torn")
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(client, key, content, **more)

whole, obstore.put = obstore.put, put
from registry_pipelines.cli import main
main(["weights", *sys.argv[1:], "--quiet"])
"""
"""The command line, killed while a store that is a folder writes a file."""


def test_what_a_kill_tore_in_a_folder_goes_with_the_next_push(tmp_path: Path) -> None:
    """Each kill would leave a model's size more on the disk, which no list shows."""
    folder, store = write(tmp_path / "m", 2, 500_000), tmp_path / "store"
    ran = subprocess.run([sys.executable, "-c", TEARS, "push", folder, store], check=False)
    assert ran.returncode == -signal.SIGKILL and list(store.glob("*#1"))
    (store / "theirs#1").write_bytes(b"x")
    done("push", folder, store)
    there = {str(path.relative_to(store)) for path in store.rglob("*")}
    beside = {"weights.json", ".registry-pipelines", ".registry-pipelines/manifest.json"}
    assert there == {"000.gguf", "001.gguf", "theirs#1", ".registry-pipelines/config.json", *beside}
    assert done("push", folder, store)["action"] == "unchanged"


def test_one_process_alone_brings_weights_into_a_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", 1, 500_000)
    with staged_in(tmp_path / "store"):
        ran = call("push", folder, tmp_path / "store")
    assert ran.exit_code == 9 and "another process brings weights into this folder" in ran.stderr
    done("push", folder, tmp_path / "store")
