"""Registries are asked with a node's own accounts, as they are now: helpers give new ones while containers read on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry_pipelines.chain.node_places import NodePlaces
from registry_pipelines.chain.places import Places
from registry_pipelines.node.counts import Counts
from registry_pipelines.node.images import NodeImages
from registry_pipelines.node.lazy_images import IMAGE_LABEL
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from tests.evidence.parts import Key
from tests.node.test_images import chain, labels
from tests.patience import patient
from tests.ports import free_ports
from tests.stream.lazy.mounts import need_fuse
from tests.stream.lazy.starts import image
from tests.stream.releases import INDEXED, Streamer

HELPER = """#!/bin/sh
printf '{"Username": "node", "Secret": "%s"}' "$(cat "$(dirname "$0")/secret")"
"""


class Guarded:
    """A registry with one account, whose password is changed; the helper of a node's Docker configuration has it."""

    def __init__(self, folder: Path) -> None:
        self.folder, [self._port] = folder, free_ports(1)
        self.server: EmbeddedServer | None = None

    def start(self, password: str) -> EmbeddedServer:
        if self.server is not None:
            self.server.stop()
        self.server = EmbeddedServer(self.folder / "content", port=self._port, users={"node": password}, tokens=True)
        self.server.start()
        return self.server

    def know(self, password: str) -> None:
        (self.folder / "secret").write_text(password)

    def images(self, key: Key, said: list[str], counts: Counts, name: str) -> NodeImages:
        place = NodePlaces(Places(None), [], said.append).place
        state = self.folder / name
        return NodeImages(
            place,
            state=state,
            verifier=key.verifier,
            log=said.append,
            fill=False,
            use_pack=False,
            counts=counts,
            wait_s=patient(60),
        )


@pytest.fixture
def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guarded]:
    found = Guarded(tmp_path)
    server = found.start("first")
    helper = tmp_path / "docker-credential-node"
    helper.write_text(HELPER)
    helper.chmod(0o755)
    (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {server.address: "node"}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found.know("first")
    yield found
    assert found.server is not None
    found.server.stop()


def indexed(guarded: Guarded, key: Key) -> tuple[Descriptor, str, dict[str, str]]:
    assert guarded.server is not None
    place = Place(DistributionRegistry(guarded.server.address), "team/app")
    release = image(place, more_mib=2)
    Streamer(place, guarded.folder / "indexer", key.signer).index(release, INDEXED)
    told = {**labels(release), IMAGE_LABEL: f"{place}:v1"}
    return release, chain(place, release)[-1], told


def test_a_new_password_of_a_helper_counts_while_an_image_is_read(guarded: Guarded, key: Key) -> None:
    need_fuse()
    release, top, told = indexed(guarded, key)
    said: list[str] = []
    with guarded.images(key, said, Counts(), "node") as images:
        served = images.find(told, top)
        assert served is not None and release.digest in served.name
        folder = served.mount(top)
        assert len((folder / "data/0").read_bytes()) == 1 << 20
        guarded.start("second")  # every token that was given is of another server now
        guarded.know("second")
        assert len((folder / "data/1").read_bytes()) == 1 << 20


def test_an_image_that_the_node_may_not_read_is_pulled_as_usual_and_that_is_said(guarded: Guarded, key: Key) -> None:
    """As where only a pod's own secret opens it."""
    _, top, told = indexed(guarded, key)
    guarded.know("geheim")
    said, counts = list[str](), Counts()
    with guarded.images(key, said, counts, "node") as images:
        assert images.find(told, top) is None
    [line] = said
    assert "is pulled as usual" in line and "401" in line and "geheim" not in line
    [fallback] = counts.fallbacks()
    assert fallback.reason == "credentials"
