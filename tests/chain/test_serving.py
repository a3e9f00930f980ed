from __future__ import annotations

import fcntl
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from registry_pipelines.chain.places import Places
from registry_pipelines.chain.serving import LOCK_FILE, USERS_FILE, ensure_registries, serve
from registry_pipelines.config import EmbeddedRegistry, load
from registry_pipelines.errors import InputError, PortTaken, ReferenceInvalid, StateLocked, Unauthorized
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.waits import BOARD
from tests.doubles.docker_registry import DockerRegistry
from tests.patience import until
from tests.ports import free_ports

ONE = "registries:\n  here: {{kind: embedded, port: {0}, root: content{1}}}\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "registry-pipelines.yaml"
    path.write_text(text)
    return path


def connects(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_registries_are_started_once_used_by_others_and_stopped(tmp_path: Path) -> None:
    [port] = free_ports(1)
    config = load(write(tmp_path, ONE.format(port, "")), {})
    with ensure_registries(config) as first:
        assert [(each.name, each.ours) for each in first] == [("here", True)]
        with ensure_registries(config) as second:
            assert [each.ours for each in second] == [False]
        assert connects(port)
        with pytest.raises(StateLocked, match="served by another process already"), serve(config):
            pass
        with ensure_registries(config, names=[]) as none:
            assert none == []
    assert not connects(port)
    with serve(config) as again:
        assert again[0].ours


def test_of_two_that_use_a_registry_the_first_that_is_done_waits_for_the_other(tmp_path: Path) -> None:
    [port] = free_ports(1)
    config = load(write(tmp_path, ONE.format(port, "")), {})
    first, second = ensure_registries(config), ensure_registries(config)
    assert first.__enter__()[0].ours and not second.__enter__()[0].ours
    ending = threading.Thread(target=first.__exit__, args=(None, None, None))
    ending.start()
    until(lambda: any(wait.reason == "another command uses it" for wait in BOARD.open.values()))
    assert connects(port)
    second.__exit__(None, None, None)
    ending.join()
    assert not connects(port)
    first, second = ensure_registries(config), ensure_registries(config)
    assert first.__enter__()[0].ours and not second.__enter__()[0].ours
    assert not first.__exit__(KeyError, KeyError(), None)  # after an error nobody waits
    assert not connects(port)
    second.__exit__(None, None, None)


def test_who_comes_while_another_begins_or_ends_waits_for_it(tmp_path: Path) -> None:
    [port] = free_ports(1)
    config = load(write(tmp_path, ONE.format(port, "")), {})
    found: list[bool] = []

    def use() -> None:
        with ensure_registries(config) as served:
            found.append(served[0].ours)

    with (tmp_path / f"content.{LOCK_FILE}").open("w") as held:  # locked, and no address is written yet
        fcntl.flock(held, fcntl.LOCK_EX)
        user = threading.Thread(target=use)
        user.start()
        until((tmp_path / f"content.{USERS_FILE}").exists)
        assert not found
    user.join()
    assert found == [True]


def test_a_stranger_on_the_port_is_never_used(tmp_path: Path) -> None:
    [port] = free_ports(1)  # which nobody else gets when the stranger is gone
    with socket.create_server(("127.0.0.1", port)):
        config = load(write(tmp_path, ONE.format(port, "")), {})
        with pytest.raises(PortTaken), ensure_registries(config):
            pass
    with ensure_registries(config) as served:  # the lock went with the failure
        assert served[0].ours


def test_a_folder_is_served_at_one_address_only(tmp_path: Path) -> None:
    one, two = free_ports(2)
    config = load(write(tmp_path, ONE.format(one, "")), {})
    with ensure_registries(config):
        moved = load(write(tmp_path, ONE.format(two, "")), {})
        with pytest.raises(StateLocked, match=f"serves this folder at 127.0.0.1:{one}"), ensure_registries(moved):
            pass


def test_when_one_registry_cannot_start_those_before_it_are_stopped(tmp_path: Path) -> None:
    [port] = free_ports(1)
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        text = ONE.format(port, "") + f"  there: {{kind: embedded, port: {stranger.getsockname()[1]}}}\n"
        with pytest.raises(PortTaken), ensure_registries(load(write(tmp_path, text), {})):
            pass
    assert not connects(port)


def test_references_start_with_configured_names_or_are_docker_s(tmp_path: Path) -> None:
    text = """\
registries:
  us: {kind: embedded, port: 5501}
  ecr: {kind: distribution, host: reg.example.com, username: u, password: "${PW}"}
  disk: {kind: layout, root: disk}
"""
    places = Places(load(write(tmp_path, text), {"PW": "x"}))
    digest = "sha256:" + "0" * 64
    for reference, expected in {
        "us/ml/app": ("127.0.0.1:5501", "ml/app", "latest"),
        "us/app:v1": ("127.0.0.1:5501", "app", "v1"),
        f"ecr/app:v1@{digest}": ("reg.example.com", "app", digest),
        "reg.example.com/app:v2": ("reg.example.com", "app", "v2"),
        "python:3": ("docker.io", "library/python", "3"),
        "uss/python": ("docker.io", "uss/python", "latest"),
        "localhost:5000/a/b": ("localhost:5000", "a/b", "latest"),
    }.items():
        found = places.locate(reference)
        assert (found.place.registry.name, found.place.repository, found.selector) == expected
    assert places.locate("reg.example.com/app").place.registry is places.registry("ecr")
    assert isinstance(places.registry("disk"), LayoutRegistry)
    assert places.place("us/a/b").repository == "a/b"
    with pytest.raises(InputError, match="names a tag"):
        places.place("us/a:v1")
    for wrong in ("us/A", "us/", "us/a:", "a b", "us/a@sha256:1"):
        with pytest.raises(ReferenceInvalid):
            places.locate(wrong)
    with pytest.raises(InputError, match="unknown registry `es`"):
        places.registry("es")


def test_accounts_are_asked_and_our_own_clients_have_the_first(tmp_path: Path) -> None:
    [port] = free_ports(1)
    text = f"registries:\n  here: {{kind: embedded, port: {port}, users: {{robot: '${{PW}}'}}}}\n"
    config = load(write(tmp_path, text), {"PW": "right"})
    here = config.registries["here"]
    assert isinstance(here, EmbeddedRegistry)
    with ensure_registries(config):
        assert list(Places(config).registry("here").repositories()) == []
        wrong = load(tmp_path / "registry-pipelines.yaml", {"PW": "wrong"})
        with pytest.raises(Unauthorized):
            list(Places(wrong).registry("here").repositories())


@pytest.mark.peer("docker-registry")
def test_a_registry_elsewhere_is_kept_within_its_bandwidth(tmp_path: Path, peer: Callable[[str], str]) -> None:
    with DockerRegistry(peer("docker-registry"), tmp_path / "there") as there:
        text = f"registries:\n  there: {{kind: distribution, host: '{there.address}', bandwidth: [4kB/s]}}\n"
        places = Places(load(write(tmp_path, text), {}))
        place = Place(places.registry("there"), "a/b")
        started = time.monotonic()
        found = push_blob(place, bytes(12_000), media_type="text/plain")
        assert place.registry.blob_size("a/b", found.digest) == 12_000
        # A cap is a promise never to be faster: 12 kB at 4 kB/s, less the second that a bucket may hold.
        assert time.monotonic() - started > 1.5
        assert any((tmp_path / ".registry-pipelines" / "limits").iterdir())
