"""Lines of a Dockerfile with the bytes of the layers that a real engine made of them."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry_pipelines.anatomy.anatomy import image_anatomy
from registry_pipelines.anatomy.lint.lint import lint
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from tests.doubles.docker_daemon import Docker, own_docker
from tests.scan.images import make_tar
from tests.scan.test_secrets import HF

PIP = """#!/bin/sh
# Installs as pip does: what was fetched into its cache, and the package beside.
mkdir -p /root/.cache/pip/wheels /usr/lib/python3/site-packages/pkg
cp /wheels/pkg-1.0-py3-none-any.whl /root/.cache/pip/wheels/cached
cp /wheels/pkg-1.0-py3-none-any.whl /usr/lib/python3/site-packages/pkg/data
"""
DOCKERFILE = """FROM scratch
ADD root.tar /
WORKDIR /srv
ARG HF_TOKEN
COPY wheels/*.whl /wheels/
RUN test -n "$HF_TOKEN" && \\
    pip install /wheels/*.whl
COPY app /app
RUN chmod -R 700 /app
RUN rm -rf /wheels
USER 1
CMD ["/bin/sh"]
"""
WHEEL = random.Random(1).randbytes(3_000_000)
CODE = random.Random(2).randbytes(500_000)


@pytest.fixture(scope="module")
def docker(peer: Callable[[str], str]) -> Iterator[Docker]:
    with own_docker(peer) as client:
        yield client


def context(folder: Path, busybox: str) -> Path:
    """A system of one program and its libraries, which is enough for RUN."""
    linked = subprocess.run(["ldd", busybox], capture_output=True, text=True).stdout.split()
    files = {each.lstrip("/"): Path(each).read_bytes() for each in linked if each.startswith("/")}
    files["bin/busybox"] = Path(busybox).read_bytes()
    links = {f"bin/{name}": "->busybox" for name in ("sh", "cp", "mkdir", "rm", "chmod", "test")}
    tar = make_tar({**files, **links, "bin/pip": PIP}, executable=[*files, "bin/pip"])
    (folder / "root.tar").write_bytes(tar)
    (folder / "wheels").mkdir()
    (folder / "wheels" / "pkg-1.0-py3-none-any.whl").write_bytes(WHEEL)
    (folder / "app").mkdir()
    (folder / "app" / "main.py").write_bytes(CODE)
    (folder / "Dockerfile").write_text(DOCKERFILE)
    return folder


@pytest.mark.peer("dockerd", "docker", "busybox", "docker-buildx")
@pytest.mark.parametrize("buildkit", ["0", "1"])
def test_lines_have_the_bytes_of_the_layers_that_docker_made(
    docker: Docker, peer: Callable[[str], str], tmp_path: Path, buildkit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = context(tmp_path, peer("busybox"))
    plugins = Path(docker.environment["HOME"]) / ".docker" / "cli-plugins"
    plugins.mkdir(parents=True, exist_ok=True)
    (plugins / "docker-buildx").unlink(missing_ok=True)
    (plugins / "docker-buildx").symlink_to(peer("docker-buildx"))
    monkeypatch.setitem(docker._environment, "DOCKER_BUILDKIT", buildkit)
    with EmbeddedServer(tmp_path / "registry") as server:
        name = f"{server.address}/team/app:1"
        docker("build", "--network", "host", "--build-arg", f"HF_TOKEN={HF}", "--tag", name, str(folder))
        docker("push", name)
        history = docker("history", "--no-trunc", "--format", "{{json .CreatedBy}}", name).splitlines()[::-1]
        place = Place(DistributionRegistry(server.address), "team/app")
        image = image_anatomy(
            place, "1", state=tmp_path / "state", all_files=True, platform=Platform.parse("linux/amd64")
        )
        found = lint(image=image, dockerfile=folder / "Dockerfile")
    assert any(HF in json.loads(line) for line in history), "the engine writes build arguments into the history"
    assert any("# buildkit" in line for line in history) is (buildkit == "1")
    assert HF not in repr(found) and HF not in repr(image)
    assert found.matched >= 6
    told = {each.kind: each for each in found.findings}
    layers = {each.number: each.made_by for each in image.layers}
    cache, copied, removed, mode = (
        told[kind] for kind in ("pip-keeps-cache", "copied-wheels", "removed-later", "chmod-after-copy")
    )
    for row, line, step, size in (
        (cache, 7, "pip install", WHEEL),
        (copied, 5, "/wheels/", WHEEL),
        (mode, 9, "chmod", CODE),
        (removed, 10, "rm -rf", WHEEL),
    ):
        assert row.line == line and step in layers[row.layers[0]], (row, layers)
        assert len(size) * 0.99 < row.compressed < len(size) * 1.02, row  # an estimate between checkpoints
    assert (told["copied-to-install"].line, told["pip-cache"].line, told["copied-for-metadata"].line) == (5, 6, 9)
    assert "build argument HF_TOKEN huggingface-token" in " ".join(told["secrets-in-config"].examples)
    assert told["secret-argument"].line == 4 and "root-user" not in told
    assert image.wasted_unpacked == 2 * len(WHEEL) + len(CODE), "the wheel, its cached copy, the code"
