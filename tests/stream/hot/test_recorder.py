"""``stream record`` as it is typed: what it finds, what it runs in, and what comes of programs that are no start."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from registry_pipelines.cli import main
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.settings import Size
from registry_pipelines.stream.hot.limits import Limits
from registry_pipelines.stream.hot.recording import PAGE_BYTES, Recording, decode, encode
from registry_pipelines.stream.hot.recordings import find_recordings
from tests.answers import answered, document
from tests.doubles.fault_registry import FaultRegistry
from tests.evidence.parts import Key
from tests.needs import missing
from tests.patience import patient
from tests.stream.hot.pythons import python_image
from tests.stream.lazy.mounts import need_fuse
from tests.stream.lazy.starts import image
from tests.stream.lazy.test_commands import Node


@pytest.fixture
def node(tmp_path: Path, key: Key) -> Iterator[Node]:
    need_fuse()
    with EmbeddedServer(tmp_path / "registry") as server, FaultRegistry(server.address) as faults:
        registry = DistributionRegistry(server.address)
        yield Node(faults, Place(registry, "team/app"), tmp_path, key)
        registry.close()


@pytest.fixture
def shell(node: Node) -> str:
    """A reference to an image with a shell."""
    image(node.place)
    return f"{node.faults.address}/team/app:v1"


def pages(found: Recording) -> set[tuple[str, int]]:
    return {(found.files[number].path, first + more) for number, first, count in found.touches for more in range(count)}


def recorded(node: Node, reference: str, *words: str) -> Recording:
    code, _, errors = node.run("record", reference, "--to", "one.rec", *words)
    assert code == 0, errors
    return decode((node.folder / "one.rec").read_bytes())


def refused(node: Node, reference: str, *words: str) -> dict[str, Any]:
    code, output, _ = node.run("record", reference, "--to", "one.rec", "--json", *words)
    assert code and not (node.folder / "one.rec").exists()
    error: dict[str, Any] = document(output)["error"]
    return error


def test_a_start_reads_the_same_pages_each_time_and_needs_no_others(node: Node) -> None:
    release = python_image(node.place)
    reference = f"{node.faults.address}/team/app:py"
    once = recorded(node, reference)
    code, output, _ = node.run("record", reference, "--signing-key", str(node.key.path), "--json")
    told = answered(output)
    [again] = find_recordings(node.place, release.digest, node.key.verifier).believed
    assert code == 0 and again.descriptor.digest == told["recording"] and pages(again.recording) == pages(once)
    assert told["pages"] == once.pages == told["new_pages"] and told["bytes"] == once.page_bytes
    paths = {file.path for file in once.files}
    assert "app/start.py" in paths and any(path.endswith("json/__init__.py") for path in paths)
    assert all(file.sha256 for file in once.files) and once.image == release.digest
    assert once.command[1:] == ("/app/start.py",) and once.until == "quiet" and not once.gpu
    assert not any(path.startswith(("proc/", "dev/", "etc/hosts")) for path in paths)
    assert replayed(node, once) == (0, '{"started": 1}\n')
    file, first, count = next(each for each in reversed(once.touches) if once.files[each[0]].path.endswith(".so"))
    less = tuple(each for each in once.touches if each != (file, first, count))
    assert replayed(node, msgspec.structs.replace(once, touches=less))[0]


def replayed(node: Node, what: Recording) -> tuple[int, str]:
    """Exit code and output of a start of which nothing else can be read."""
    (node.folder / "replayed.rec").write_bytes(encode(what))
    folder = Path(tempfile.mkdtemp(dir=node.folder))
    words = [node.faults.address, "py", str(node.folder / "replayed.rec"), str(folder)]
    command = [sys.executable, "-m", "tests.stream.hot.replay", *words]
    ran = subprocess.run(
        command, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=patient(60), check=False
    )
    return ran.returncode, ran.stdout


def test_a_recording_lists_what_is_read_of_the_image_and_nothing_else(node: Node, shell: str) -> None:
    script = (
        "head=$(cat /etc/motd); echo $head >/tmp-1; cat /tmp-1 /proc/self/status /etc/hosts; cat /data/3 >/dev/null; "
        "echo x >>/data/5; read -r line </data/7"
    )
    found = recorded(node, shell, "--until", "exit", "--", "sh", "-c", script)
    whole = {(f"data/{number}", page) for number in (3, 5) for page in range((1 << 20) // PAGE_BYTES)}
    whole.add(("data/7", 0))  # and no page ahead
    paths = {path for path, _ in pages(found)}
    assert {each for each in pages(found) if each[0].startswith("data/")} == whole  # 5 is copied up
    assert "etc/motd" in paths and paths <= {"etc/motd", "etc/passwd", "data/3", "data/5", "data/7"} | {
        path for path in paths if path.startswith(("bin/", "lib", "usr/lib"))
    }
    order = [found.files[number].path for number, _, _ in found.touches]
    assert order.index("bin/sh") < order.index("bin/cat") < order.index("data/3") < order.index("data/5")


def test_programs_run_without_network_rights_or_what_this_machine_has(
    node: Node, shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not for images")
    told = "cat /proc/self/status /proc/net/dev; ls /dev; set; ls -l /proc/self/ns/; cat /dev/stdin"
    code, _, errors = node.run("record", shell, "--to", "one.rec", "--until", "exit", "--", "sh", "-c", told)
    status = dict(line.partition(":")[::2] for line in errors.splitlines() if ":" in line)
    assert code == 0 and "SECRET" not in errors and "WORD='lazily'" in errors and "nvidia" not in errors
    assert status["NoNewPrivs"].strip() == "1" and int(status["CapEff"].strip(), 16) == 0x405FB
    for kind in ("net", "ipc", "pid", "mnt", "uts", "cgroup"):
        assert f"{kind}:[" in errors and str(Path("/proc/self/ns", kind).readlink()) not in errors


CALLS = """
import ctypes, errno, os, subprocess, sys, threading

libc = ctypes.CDLL(None, use_errno=True)
def call(*numbers):
    failed = libc.syscall(*map(ctypes.c_long, numbers)) < 0
    return errno.errorcode[ctypes.get_errno()] if failed else "done"
print(call(250, 0, -3, 0), call(272, 0x10000000), call(272, 0x200), call(435, 0, 0), call(321, 0, 0, 0))
thread = threading.Thread(target=print, args=["thread"])
thread.start()
thread.join()
print(subprocess.run(["/bin/sh", "-c", "echo child"], capture_output=True).stdout)
try:
    open("/dev/tty")
except OSError as error:
    print("terminal", errno.errorcode[error.errno])
"""


def test_programs_reach_neither_the_kernel_s_keys_nor_a_terminal_and_get_no_rights_anew(node: Node) -> None:
    if os.uname().machine != "x86_64":
        missing("the numbers of its calls are those of x86_64")
    python_image(node.place)
    words = ("record", f"{node.faults.address}/team/app:py", "--to", "one.rec", "--until", "exit", "--", "-c", CALLS)
    code, _, errors = node.run(*words)
    told = "EPERM EPERM done ENOSYS EPERM\nthread\nb'child\\n'\nterminal ENXIO\n"
    assert code == 0 and told in errors, errors


def test_a_program_that_is_no_start_is_not_recorded(node: Node, shell: str) -> None:
    def told(*words: str) -> str:
        what: str = refused(node, shell, *words)["what"]
        return what

    assert "ended with 3; it printed last:\nwhy" in told("--", "sh", "-c", "echo why >&2; exit 3")
    assert "after 1s it has not ended" in told("--until", "exit", "--timeout", "1s", "--", "sleep", "1000")
    assert "no line with 'READY'" in told("--until", "line READY", "--", "sh", "-c", "echo REA; echo DY")
    assert "nothing listens on port 81" in told("--until", "port 81", "--", "ls")
    error = refused(node, shell, "--gpu") if not list(Path("/dev").glob("nvidia*")) else {"what": "no GPU"}
    assert "no GPU" in error["what"]
    runs = node.folder / "state" / "registry-pipelines" / "lazy" / "runs"
    groups = Path("/sys/fs/cgroup").rglob("registry-pipelines-*")  # of tests beside this one, too, by their processes
    left = [each for each in groups if not Path("/proc", each.name.rpartition("-")[2]).exists()]
    assert not list(runs.iterdir()) and not left


def test_a_start_is_over_when_it_says_so_and_nothing_of_it_is_left(node: Node, shell: str) -> None:
    seconds = 10_000 + os.getpid()  # other tests' programs sleep, too
    script = f"cat /data/1 >/dev/null; echo it is READY now; sleep {seconds}; cat /data/2"
    found = recorded(node, shell, "--until", "line READY", "--", "sh", "-c", script)
    paths = {file.path for file in found.files}
    assert "data/1" in paths and "data/2" not in paths and found.until == "line READY"
    assert not [each for each in Path("/proc").glob("[0-9]*/cmdline") if f"sleep\0{seconds}".encode() in _text(each)]


def _text(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_limits_hold_for_all_that_is_run_together(node: Node, shell: str) -> None:
    many = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1000 & done; wait"
    what = refused(node, shell, "--processes", "8", "--until", "exit", "--timeout", "60s", "--", "sh", "-c", many)[
        "what"
    ]
    assert "more than 8 processes" in what
    grows = "(a=x; while :; do a=$a$a; done); exit 0"  # one process is killed, and the program ends well
    with Limits(Size(64 << 20), 8) as limits:
        by_kernel = limits.together
    if by_kernel:  # else each process has its own limit, and is told no
        end = ("--until", "exit", "--timeout", "60s")
        found = refused(node, shell, "--memory", "64MiB", *end, "--", "sh", "-c", grows)
        assert "more than 64MiB of memory" in found["what"]
    files = "while cat /data/1 /data/2 >>/all; do :; done; exit 7"
    found = refused(node, shell, "--memory", "64MiB", "--until", "exit", "--timeout", "60s", "--", "sh", "-c", files)
    assert "No space left" in found["what"] or "more than 64MiB of memory" in found["what"]


def test_recordings_of_others_are_added_and_what_is_not_signed_does_not_count(
    node: Node, shell: str, other_key: Key
) -> None:
    signing = ("--signing-key", str(node.key.path))
    one = recorded(node, shell, "--", "sha256sum", "/data/1")
    (node.folder / "gpu.rec").write_bytes(encode(recorded(node, shell, "--", "sha256sum", "/data/2")))
    code, output, errors = node.run(
        "record", shell, *signing, "--merge", "gpu.rec", "--json", "--", "sha256sum", "/data/3"
    )
    assert code == 0, errors
    digest = node.place.registry.resolve(node.place.repository, "v1").digest
    [found] = find_recordings(node.place, digest, node.key.verifier).believed
    assert {"data/2", "data/3"} < {path for path, _ in pages(found.recording)}
    (node.folder / "one.rec").write_bytes(encode(one))
    code, output, _ = node.run("record", shell, *signing, "--merge", "one.rec", "--no-run", "--json")
    assert code == 0 and 0 < answered(output)["new_pages"] < one.pages and answered(output)["seconds"] is None
    everything = find_recordings(node.place, digest, node.key.verifier)
    assert everything.merged and {"data/1", "data/2", "data/3"} < {path for path, _ in pages(everything.merged)}
    code, output, _ = node.run("record", shell, *signing, "--merge", "one.rec", "--no-run", "--json")
    assert code == 0 and not answered(output)["changed"] and answered(output)["new_pages"] == 0
    code, output, _ = node.run("pack", shell, "--key", str(node.key.path), "--json")
    assert code == 0 and answered(output)["facts"]["pages"] == everything.merged.pages
    code, output, _ = node.run("pack", shell, "--key", str(other_key.path), "--json")
    assert code == 8 and "no recording of the image's start" in document(output)["error"]["what"]
    strangers = find_recordings(node.place, digest, other_key.verifier)
    assert not strangers.believed and strangers.merged is None
    assert any("believed as indexer" in each.reason for each in strangers.not_used)


def test_a_recording_needs_a_key_or_a_file_and_options_that_fit() -> None:
    reference = "registry.example.com/team/app:v1"

    def told(*words: str) -> str:
        ran = CliRunner().invoke(main, ["stream", "record", reference, "--json", *words])
        found = document(ran.stdout)
        assert found["exit_code"] == 8
        what: str = found["error"]["what"]
        return what

    assert "no key of the indexer" in told()
    for words, what in (
        (("--until", "ready"), "the end of a start"),
        (("--until", "port 99999"), "--until 99999 is no port"),
        (("--timeout", "soon"), "not a duration"),
        (("--timeout", "5s"), "are not longer than the 30 seconds"),
        (("--memory", "1MiB"), "--memory 1MiB"),
        (("--processes", "0"), "--processes"),
        (("--no-run",), "nothing to record"),
        (("--signing-key", "any.key"), "which nobody signs"),
        (("--to", "nowhere/one.rec"), "no such folder"),
    ):
        assert what in told("--to", "one.rec", *words)
