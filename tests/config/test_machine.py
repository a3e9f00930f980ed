"""What one machine says of itself beside a configuration that is the same file everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from registry_pipelines.chain import Chain
from registry_pipelines.chain.places import Places
from registry_pipelines.chain.serving import ensure_registries, serve
from registry_pipelines.config import EmbeddedRegistry, load
from registry_pipelines.config.machine import SERVED_BY, STATE
from registry_pipelines.errors import ConfigInvalid, InputError
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.protocol import Place
from tests.ports import free_ports

TWO = """
state: own
registries:
  here: {{kind: embedded, port: {0}}}
  named: {{kind: embedded, port: {1}, reachable_as: "images.example.com:443"}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "registry-pipelines.yaml"
    path.write_text(TWO.format(*free_ports(2)))
    return path


def test_the_state_folder_is_the_machine_s_own(file: Path, tmp_path: Path) -> None:
    assert load(file, {}).state == file.parent / "own"
    assert load(file, {STATE: str(tmp_path / "worker-1")}).state == tmp_path / "worker-1"
    with pytest.raises(ConfigInvalid, match=rf"{STATE}: 'worker-1' is not an absolute path"):
        load(file, {STATE: "worker-1"})


def test_what_the_configuration_puts_below_its_state_folder_comes_along(tmp_path: Path) -> None:
    """That folder may be read-only on this machine, or not be there."""
    file = tmp_path / "registry-pipelines.yaml"
    places = "root: own/content, access_log: own/log.jsonl"
    other = "root: content, access_log: log.jsonl"
    file.write_text(
        "state: own\nregistries:\n"
        f"  inside: {{kind: embedded, port: 5501, {places}}}\n  outside: {{kind: embedded, port: 5502, {other}}}\n"
    )
    found = load(file, {STATE: "/machine"}).registries
    inside, outside = found["inside"], found["outside"]
    assert isinstance(inside, EmbeddedRegistry) and isinstance(outside, EmbeddedRegistry)
    assert (inside.root, inside.access_log) == (Path("/machine/content"), Path("/machine/log.jsonl"))
    assert (outside.root, outside.access_log) == (tmp_path / "content", tmp_path / "log.jsonl")


def test_registries_that_another_machine_serves_are_asked_there_and_opened_by_nobody_here(
    file: Path, tmp_path: Path
) -> None:
    """The other one listens on an address that the configuration does not name; ours reads what it serves."""
    theirs = load(file, {})
    ours = load(file, {STATE: str(tmp_path / "worker"), SERVED_BY: "localhost"})
    port = ours.registries["here"].port  # type: ignore[union-attr]
    with serve(theirs, listen="0.0.0.0"):
        pushed = push_blob(Place(Places(theirs).registry("here"), "team/app"), b"bytes", media_type="text/plain")
        with ensure_registries(ours) as served:
            assert [(each.url, each.ours) for each in served] == [
                (f"http://localhost:{port}", False),
                ("http://images.example.com:443", False),
            ]
            assert Places(ours).registry("here").blob_size("team/app", pushed.digest) == 5
    assert not (tmp_path / "worker" / "registries").exists()
    with pytest.raises(InputError, match="localhost serves the registries"), serve(ours):
        pass


def test_what_is_no_host_is_refused(file: Path) -> None:
    for wrong in ("host:5000", "http://host", "a b", "[::1]:5000", "host\n"):
        with pytest.raises(ConfigInvalid, match="is not a host; write its name or address, without a port"):
            load(file, {SERVED_BY: wrong})
    assert load(file, {SERVED_BY: "[::1]"}).served_by == "[::1]"


def test_two_registries_of_one_port_cannot_both_be_at_one_host(tmp_path: Path) -> None:
    path = tmp_path / "registry-pipelines.yaml"
    one, two = "{kind: embedded, port: 5500}", "{kind: embedded, port: 5500, host: 127.0.0.2}"
    path.write_text(f"registries:\n  one: {one}\n  two: {two}\n")
    assert load(path, {}).registries
    with pytest.raises(ConfigInvalid, match="two and one have one port, and elsewhere serves both"):
        load(path, {SERVED_BY: "elsewhere"})


def test_bytes_of_a_registry_elsewhere_are_freed_there(file: Path, tmp_path: Path) -> None:
    ours = load(file, {STATE: str(tmp_path / "worker"), SERVED_BY: "localhost"})
    (tmp_path / "worker" / "registries" / "here").mkdir(parents=True)
    with pytest.raises(InputError, match="localhost serves here, and its files are there"):
        Chain(ours).garbage("here")


def test_serve_listens_where_it_is_told(file: Path) -> None:
    environment = {**os.environ, "REGISTRY_PIPELINES_CONFIG": str(file)}
    command = [str(Path(sys.executable).parent / "registry-pipelines"), "serve", "--host", "127.0.0.3"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            told = [process.stdout.readline().decode().split() for _ in range(2)]
            assert [each[0] for each in told] == ["here:", "named:"]
            port = told[0][1].rpartition(":")[2]
            listening = subprocess.run(["ss", "-Hltn", f"sport = :{port}"], capture_output=True, text=True, check=True)
            assert f"127.0.0.3:{port}" in listening.stdout
        finally:
            process.terminate()
