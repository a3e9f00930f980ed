"""Hosts say who runs what: containerd over its socket and by ``ctr``, CRI-O's way by ``crictl``, and Docker."""

from __future__ import annotations

import json
import os
import shlex
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.chain import Chain
from registry_pipelines.chain.usage_sources import open_source
from registry_pipelines.config import load
from registry_pipelines.errors import ConfigInvalid, LocalError, RegistryError, RegistryPipelinesError
from registry_pipelines.inventory.usage.containerd import ContainerdSource, CriHost, CtrHost, SocketHost
from registry_pipelines.inventory.usage.containerd_api import fields
from registry_pipelines.inventory.usage.docker_hosts import DockerHost, DockerSource
from registry_pipelines.inventory.usage.model import Use
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from tests.doubles.containerd import Containerd, containerd
from tests.doubles.docker_daemon import own_docker
from tests.needs import missing, needed_module
from tests.stream.layers import pack
from tests.stream.lazy.stacks import entry
from tests.stream.releases import Layer, push, push_index, waiting_program

ID = f"sha256:{'d' * 64}"
VERSIONS = pytest.mark.parametrize(
    "programs",
    [
        pytest.param(("containerd", "ctr"), id="the system's"),
        pytest.param(("../containerd2/containerd", "../containerd2/ctr"), id="2", marks=pytest.mark.long),
    ],
)


class Images(NamedTuple):
    """A registry with an index (``v1``) of one image, and another image (``v2``)."""

    place: Place
    v1: Descriptor
    v2: Descriptor


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Images]:
    with EmbeddedServer(tmp_path / "registry") as server:
        place = Place(DistributionRegistry(server.address, plain_http=True), "team/app")
        layer = pack([entry("wait", content=waiting_program(), mode=0o755)])
        config = {"Cmd": ["/wait"], "Env": ["A=1"]}
        push_index(place, {"amd64": push(place, Layer(layer, layer), config=config)}, tag="v1")
        push(place, Layer(layer, layer), config={**config, "Env": ["A=2"]}, tag="v2")
        yield Images(place, *(place.registry.resolve(place.repository, tag) for tag in ("v1", "v2")))


@contextmanager
def started(peer: Callable[[str], str], programs: Sequence[str]) -> Iterator[tuple[Containerd, Path]]:
    if os.geteuid() != 0:
        missing("containerd needs root")
    found = [peer(each) for each in programs]
    with tempfile.TemporaryDirectory(prefix="ctrd-") as folder, containerd(found[0], found[1], Path(folder)) as client:
        yield client, Path(folder)


def seen(uses: Sequence[Use]) -> set[tuple[str, str, str, bool, bool]]:
    return {
        (use.where.partition("namespace ")[2], use.image.rpartition("/")[2], use.digest, use.running, use.weak)
        for use in uses
    }


@VERSIONS
def test_containerd_tells_containers_and_images_over_its_socket_and_by_ctr(
    images: Images, peer: Callable[[str], str], programs: tuple[str, str]
) -> None:
    needed_module("grpc", "containerd")
    with started(peer, programs) as (ctr, folder):
        names = [f"{images.place}:{tag}" for tag in ("v1", "v2")]
        for name in names:
            ctr("--namespace", "k8s.io", "images", "pull", "--plain-http", name)
        ctr("--namespace", "other", "images", "pull", "--plain-http", names[1])
        ctr("--namespace", "k8s.io", "run", "--detach", "--null-io", names[0], "runs")
        ctr("--namespace", "other", "containers", "create", names[1], "made")
        try:
            by_socket = list(ContainerdSource("n", [SocketHost("a", folder / "grpc.sock")]).uses())
            command = (peer(programs[1]), "--address", str(folder / "grpc.sock"))
            by_ctr = list(ContainerdSource("n", [CtrHost("a", command)]).uses())
            only = ContainerdSource("n", [CtrHost("a", command)], namespaces=["oth*"], images=False)
            strange = ContainerdSource("n", [CtrHost("a", command)], namespaces=["k8s.oi"])
            assert seen(by_socket) == seen(by_ctr) == {
                ("k8s.io, container runs", "app:v1", images.v1.digest, True, False),
                ("k8s.io, image", "app:v2", images.v2.digest, True, True),
                ("other, container made", "app:v2", images.v2.digest, False, False),
            }  # fmt: skip
            assert all(use.since for use in by_socket if not use.weak)
            assert {use.where for use in only.uses()} == {"host a, namespace other, container made"}
            with pytest.raises(RegistryPipelinesError, match=r"no namespace is called k8s\.oi: k8s\.io, other"):
                list(strange.uses())
        finally:
            ctr("--namespace", "k8s.io", "tasks", "delete", "--force", "runs")


def answering(folder: Path, name: str, answers: dict[str, str]) -> tuple[str, ...]:
    """A program that prints an answer by its arguments, and fails at others."""
    cases = "".join(f"  {shlex.quote(key)}) cat <<'EOF'\n{text}\nEOF\n;;\n" for key, text in answers.items())
    program = folder / name
    program.write_text(f'#!/bin/sh\ncase "$*" in\n{cases}  *) echo "password=hidden: no answer" >&2; exit 3;;\nesac\n')
    program.chmod(0o755)
    return (str(program),)


def cri(containers: list[dict[str, Any]], stored: list[dict[str, Any]]) -> dict[str, str]:
    return {
        "ps --all --output json": json.dumps({"containers": containers}),
        "images --output json": json.dumps({"images": stored}),
    }


def test_crictl_tells_what_any_runtime_of_kubernetes_runs(tmp_path: Path) -> None:
    digest, other = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
    made = {"createdAt": "1793527200000000000", "state": "CONTAINER_RUNNING"}
    containers = [
        {"id": "1" * 64, "metadata": {"name": "web"}, "image": {"image": ID}, "imageRef": ID, **made},
        {
            "id": "2" * 64,
            "metadata": {"name": "old"},
            "image": {"image": f"reg.example/app@{other}"},
            "imageRef": f"reg.example/app@{other}",
            "state": "CONTAINER_EXITED",
        },
    ]
    stored = [
        {"id": ID, "repoTags": ["reg.example/app:v1"], "repoDigests": [f"reg.example/app@{digest}"]},
        {"id": "e" * 64, "repoTags": ["localhost/made-here:1"], "repoDigests": []},
    ]
    uses = list(ContainerdSource("n", [CriHost("a", answering(tmp_path, "crictl", cri(containers, stored)))]).uses())
    told = {(use.where, use.image, use.digest, use.config, use.running) for use in uses}
    web, old = "host a, container web (111111111111)", "host a, container old (222222222222)"
    assert {
        (web, f"reg.example/app@{digest}", digest, "", True),
        (web, "reg.example/app:v1", digest, "", True),
        (web, "", "", ID, True),
        (old, f"reg.example/app@{other}", other, "", False),
    } <= told
    assert ("host a, image", "localhost/made-here:1", "", "", True) in told
    assert {f"{use.since:%Y-%m}" for use in uses if use.since} == {"2026-11"}


@pytest.mark.parametrize("answer", ["no JSON", "[]", "null"])
def test_what_crictl_prints_is_read_or_refused(tmp_path: Path, answer: str) -> None:
    program = answering(tmp_path, "crictl", {"ps --all --output json": answer, "images --output json": answer})
    with pytest.raises(RegistryError, match="printed no"):
        CriHost("a", program).namespaces()


def test_a_host_that_does_not_answer_ends_the_answer_after_what_others_said(tmp_path: Path) -> None:
    good = {
        "namespaces ls -q": "default",
        "--namespace default containers ls": "CONTAINER    IMAGE    RUNTIME\nc1    reg.example/app:v1    runc",
        "--namespace default images ls": "REF TYPE DIGEST SIZE PLATFORMS LABELS",
        "--namespace default tasks ls": "TASK    PID    STATUS",
    }
    hosts = [
        CtrHost("silent", answering(tmp_path, "silent", {})),
        CtrHost("good", answering(tmp_path, "good", good)),
    ]
    told: list[Use] = []
    with pytest.raises(LocalError, match="ended with 3") as refused:
        for use in ContainerdSource("n", hosts).uses():
            told.append(use)
    assert [use.image for use in told] == ["reg.example/app:v1"] and "hidden" not in str(refused.value)
    for wrong in (
        {**good, "--namespace default tasks ls": "the table is new"},
        {**good, "namespaces ls -q": "a;reboot"},
        {**good, "--namespace default images ls": "REF TYPE DIGEST\nonly-a-name"},
    ):
        with pytest.raises(RegistryError):
            CtrHost("odd", answering(tmp_path, "odd", wrong)).namespaces()


def test_a_socket_that_is_not_there_and_one_that_is_none_are_no_hosts_where_nothing_runs(tmp_path: Path) -> None:
    needed_module("grpc", "containerd")
    with pytest.raises(LocalError, match="socket is not there"):
        SocketHost("a", tmp_path / "none.sock").namespaces()


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_refused(raw: bytes) -> None:
    try:
        found = list(fields(raw))
    except RegistryError:
        return
    assert all(number >= 0 and isinstance(value, int | bytes) for number, value in found)


def test_docker_tells_containers_and_images_by_what_they_were_pulled_by(
    images: Images, peer: Callable[[str], str]
) -> None:
    needed_module("docker", "docker")
    with own_docker(peer) as docker:
        names = [f"{images.place}:{tag}" for tag in ("v1", "v2")]
        for name in names:
            docker("pull", "--quiet", name)
        docker("run", "--detach", "--network", "none", "--name", "runs", names[0])
        docker("create", "--name", "made", names[1])
        docker("tag", names[1], "made-here:1")
        try:
            address = docker.environment["DOCKER_HOST"]
            uses = list(DockerSource("n", [DockerHost("a", address)]).uses())
        finally:
            docker("rm", "--force", "runs")
    digests = {(use.where, use.digest, use.running) for use in uses if use.digest}
    assert digests == {
        ("host a, container runs", images.v1.digest, True),
        ("host a, container made", images.v2.digest, False),
    }
    assert all(use.config.startswith("sha256:") for use in uses)
    with pytest.raises(RegistryPipelinesError, match="Docker does not answer"):
        list(DockerSource("n", [DockerHost("a", address)]).uses())


def test_hosts_stand_in_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "registry-pipelines.yaml"
    hosts = "{here: {}, node7: {command: [ssh, node7, sudo, crictl], program: crictl}}"
    text = (
        "registries:\n  here: {kind: layout, root: images}\nusage:\n"
        f"  nodes: {{kind: containerd, hosts: {hosts}}}\n"
        "  build: {kind: docker, hosts: {farm: {address: 'tcp://farm:2376'}}}\n"
    )
    path.write_text(text)
    session = Chain(load(path))._session
    assert [type(open_source(session, name)).__name__ for name in ("nodes", "build")] == [
        "ContainerdSource", "DockerSource",
    ]  # fmt: skip
    path.write_text(text.replace(hosts, "{}").replace("tcp://farm:2376", "farm"))
    with pytest.raises(ConfigInvalid) as refused:
        load(path)
    assert "address of a Docker engine" in str(refused.value)
    path.write_text(text.replace(hosts, "{}"))
    with pytest.raises(ConfigInvalid, match="names no host"):
        load(path)
