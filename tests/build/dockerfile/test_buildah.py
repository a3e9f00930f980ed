"""A real Buildah: what it leaves behind, what goes wrong, and which rows of the table hold."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from registry_pipelines.build.dockerfile.builder import DockerfileBuilder
from registry_pipelines.build.dockerfile.engines.buildah import Buildah
from registry_pipelines.build.dockerfile.engines.protocol import LAYOUT, Order
from registry_pipelines.build.dockerfile.model import BuildSecret, DockerfileSpec
from registry_pipelines.errors import BuildFailed, InputError, ToolMissing
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layout import Layout
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from tests.build.dockerfile.kit import SECRET, processes, project, shell_root
from tests.needs import missing
from tests.patience import patient

DATE = 1_700_000_000

pytestmark = pytest.mark.peer("../buildah/buildah", "busybox")


@pytest.fixture(scope="module")
def _environment(peer: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What has Buildah keep all in a folder, and take steps as a chroot; with an image localhost/base:1."""
    program = Path(peer("../buildah/buildah"))
    if os.getuid() != 0:
        missing("the wrapper of Buildah mounts")
    folder = tmp_path_factory.mktemp("buildah")
    storage = folder / "storage.conf"
    storage.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/root"\nrunroot = "{folder}/run"\n')
    environment = {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "CONTAINERS_STORAGE_CONF": str(storage),
        "BUILDAH_ISOLATION": "chroot",
        "TOKEN": SECRET,
    }
    shell_root(folder / "base", peer("busybox"))
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY base /\n")
    command = [
        program,
        "build",
        "--quiet",
        "--network=host",
        "--identity-label=false",
        "--tag=localhost/base:1",
        folder,
    ]
    subprocess.run(command, env={**os.environ, **environment}, check=True, capture_output=True)
    yield environment


@pytest.fixture
def buildah(_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Buildah:
    for name, value in _environment.items():
        monkeypatch.setenv(name, value)
    return Buildah()


def spec(context: Path, **more: object) -> DockerfileSpec:
    given = {"name": "x", "version": "1", "context": context, "network": "host", **more}
    return DockerfileSpec(**given)  # type: ignore[arg-type]


def order(spec: DockerfileSpec, folder: Path, seconds: float = patient(60)) -> Order:
    folder.mkdir()
    return Order(
        spec=spec,
        platforms=(Platform.here(),),
        labels={"l": "1"},
        source_date=DATE,
        folder=folder,
        deadline=time.monotonic() + seconds,
        secret_values=(SECRET,),
    )


def made(folder: Path) -> tuple[dict[str, Any], list[tarfile.TarFile]]:
    """Config and layers."""
    layout = Layout(folder / LAYOUT)
    (top,) = layout.manifests()
    manifest = json.loads(layout.blob_path(top).read_bytes())
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    blobs = [layout.blob_path(Digest.parse(each["digest"])).read_bytes() for each in manifest["layers"]]
    config = json.loads(layout.blob_path(Digest.parse(manifest["config"]["digest"])).read_bytes())
    return config, [tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob))) for blob in blobs]


TEXT = """\
FROM localhost/base:1 AS one
ARG TARGETARCH
RUN --mount=type=secret,id=token cat /run/secrets/token && echo $TARGETARCH > /arch
FROM localhost/base:1
ARG SOURCE_DATE_EPOCH
COPY --from=one /arch /
COPY --chmod=600 <<EOF app.txt /there/
hi
EOF
RUN echo $SOURCE_DATE_EPOCH >> /arch
HEALTHCHECK CMD true
ONBUILD RUN true
"""


@pytest.mark.long
def test_an_image_with_secrets_heredocs_and_what_only_dockers_format_has(buildah: Buildah, tmp_path: Path) -> None:
    context = project(tmp_path / "context", TEXT, **{".dockerignore": "app*\n!app.txt\n", "apple": "no"})
    wanted = spec(context, secrets={"token": BuildSecret(env="TOKEN")})
    built = buildah.build(order(wanted, tmp_path / "one"))
    config, layers = made(tmp_path / "one")
    assert built.engine.startswith("Buildah 1.") and not any(step.cached for step in built.steps)
    assert config["config"]["Healthcheck"]["Test"] == ["CMD-SHELL", "true"]
    assert config["config"]["OnBuild"] == ["RUN true"] and config["config"]["Labels"] == {"l": "1"}
    assert config["created"].startswith("2023-11-14T22:13:20")
    files = {member.name: (layer, member) for layer in layers for member in layer if member.isfile()}
    layer, member = files["arch"]
    content = layer.extractfile(member)
    assert content is not None and content.read().decode() == f"{Platform.here().architecture}\n{DATE}\n"
    assert {name for name in files if name.startswith("there")} == {"there/EOF", "there/app.txt"}
    assert (files["there/EOF"][1].mode & 0o777, files["there/EOF"][1].mtime) == (0o600, DATE)
    everything = b"".join(path.read_bytes() for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert SECRET.encode() not in everything and all(SECRET not in step.name for step in built.steps)


def test_what_goes_wrong(buildah: Buildah, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"FROM localhost/base:1\n\nRUN <<EOF\necho it is {SECRET}\nexit 4\nEOF\n"
    with pytest.raises(BuildFailed) as caught:
        buildah.build(order(spec(project(tmp_path / "failing", text)), tmp_path / "one"))
    assert (caught.value.line, caught.value.last_lines) == (3, ["it is ***"])
    assert "exit status 4" in str(caught.value) and SECRET not in str(caught.value)
    with EmbeddedServer(tmp_path / "registry") as server:
        place = Place(DistributionRegistry(server.address, plain_http=True), "x")
        own = project(tmp_path / "own", "# syntax=example.com/own:1\nFROM localhost/base:1\n")
        with pytest.raises(InputError, match=r"line 1: # syntax=example\.com/own:1: Buildah ignores it"):
            DockerfileBuilder(tmp_path / "state", engines=[buildah]).build(spec(own), place)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolMissing, match="there is no buildah"):
        buildah.find()


@pytest.mark.long
def test_the_same_again_is_cached_and_has_the_same_digest(buildah: Buildah, tmp_path: Path) -> None:
    wanted = spec(project(tmp_path / "context", "FROM localhost/base:1\nCOPY app.txt /\nRUN cat /app.txt > /other\n"))
    builds = [buildah.build(order(wanted, tmp_path / name)) for name in ("one", "two")]
    assert [any(step.cached for step in built.steps) for built in builds] == [False, True]
    assert list(Layout(tmp_path / "one" / LAYOUT).manifests()) == list(Layout(tmp_path / "two" / LAYOUT).manifests())


@pytest.mark.long
def test_an_image_that_is_gone_and_the_time_limit(buildah: Buildah, tmp_path: Path) -> None:
    gone = project(tmp_path / "gone", "FROM 127.0.0.1:9/gone:1\n")
    with pytest.raises(BuildFailed, match="Dockerfile:1: an image cannot be had"):
        buildah.build(order(spec(gone), tmp_path / "two"))
    slow = project(tmp_path / "slow", "FROM localhost/base:1\nRUN echo begun; sleep 611\n")
    with pytest.raises(BuildFailed, match="took longer than"):
        buildah.build(order(spec(slow), tmp_path / "three", seconds=patient(3)))
    until = time.monotonic() + patient(20)
    while processes(["sleep", "611"]) and time.monotonic() < until:
        time.sleep(0.1)
    assert processes(["sleep", "611"]) == []


@pytest.mark.long
@pytest.mark.parametrize(
    ("lines", "printed"),
    [
        ("ENV B=${D:?no}\nRUN echo [$B]", "[no]"),
        ("ARG TARGETARCH=mine\nRUN echo [$TARGETARCH]", f"[{Platform.here().architecture}]"),
        ('RUN ["/bin/echo", "one"] two', "one"),
        ("RUN echo a\\\\\nRUN echo b", "aRUN echo b"),
    ],
    ids=["required", "TARGETARCH", "JSON", "continued"],
)
def test_what_it_reads_another_way(buildah: Buildah, tmp_path: Path, lines: str, printed: str) -> None:
    """Each is a row of ``needs``; Buildah itself says nothing."""
    context = project(tmp_path / "context", f"FROM localhost/base:1\n{lines}\n")
    command = ["buildah", "build", "--network=host", "--no-cache", str(context)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and printed in done.stdout.splitlines()
    with EmbeddedServer(tmp_path / "registry") as server:
        place = Place(DistributionRegistry(server.address, plain_http=True), "x")
        with pytest.raises(InputError, match="Buildah"):
            DockerfileBuilder(tmp_path / "state", engines=[buildah]).build(spec(context), place)


def test_a_secret_in_a_line_that_is_cut_shows_no_part_of_itself(buildah: Buildah, tmp_path: Path) -> None:
    """Also behind a line of megabytes that does not end."""
    text = (
        "FROM localhost/base:1\nRUN --mount=type=secret,id=token "
        'busybox printf "%0996d" 0; cat /run/secrets/token; echo; '
        "busybox yes | busybox tr -d '\\n' | busybox head -c 3000000; cat /run/secrets/token; echo; ls /nowhere\n"
    )
    context = project(tmp_path / "context", text)
    with pytest.raises(BuildFailed) as caught:
        buildah.build(order(spec(context, secrets={"token": BuildSecret(env="TOKEN")}), tmp_path / "out"))
    said = str(caught.value) + "".join(caught.value.last_lines)
    assert SECRET[:4] not in said and "0***" in said
    assert all(len(line) <= 1000 for line in caught.value.last_lines)
