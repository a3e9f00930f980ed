"""Derived images in real programs that start them: Docker pulls and runs what was made of a release of Docker's."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator

import pytest

from registry_pipelines.oci import media_types
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.model import Stream
from tests.doubles.docker_daemon import Docker, own_docker
from tests.stream.releases import ESTARGZ, SOCI, Layer, Streamer, files, layer, program, push, push_index


@pytest.fixture(scope="module")
def docker(peer: Callable[[str], str]) -> Iterator[Docker]:
    with own_docker(peer) as client:
        yield client


def started(place: Place, *, docker: bool) -> None:
    """A release of two platforms, the first of which says hello; of OCI's types or of Docker's."""
    kind = media_types.DOCKER_LAYER_GZIP if docker else media_types.OCI_LAYER_GZIP
    tar = files("noise", hello=program(b"hello\n"))
    images = {}
    for architecture in ("amd64", "arm64"):
        upper = layer(architecture, media_type=kind)
        base = Layer(gzip.compress(tar, mtime=0), tar, kind)
        images[architecture] = push(
            place, base, upper, architecture=architecture, docker=docker, config={"Cmd": ["/hello"]}
        )
    push_index(place, images, tag="v1", attested=True)


LONG = pytest.mark.long


@pytest.mark.parametrize(
    ("stream", "types"),
    [
        pytest.param(SOCI, "oci", id="soci-v2"),
        pytest.param(SOCI, "docker", id="soci-v2, Docker's types", marks=LONG),
        pytest.param(ESTARGZ, "oci", id="estargz", marks=LONG),
        pytest.param(ESTARGZ, "docker", id="estargz, Docker's types"),
    ],
)
def test_docker_pulls_and_runs_it(place: Place, streamer: Streamer, docker: Docker, stream: Stream, types: str) -> None:
    started(place, docker=types == "docker")
    top = place.registry.resolve(place.repository, "v1")
    made = streamer.convert(top, stream)
    assert made.derived is not None
    image = f"{place.registry.name}/{place.repository}:{made.tag}"
    assert made.derived.digest in docker("pull", image)
    assert docker("run", "--rm", "--network", "host", image) == "hello\n"
    docker("rmi", image)
