"""The classic engine of a real Docker: what it makes of a context, what goes wrong, how it is ended."""

from __future__ import annotations

import gzip
import io
import json
import selectors
import socket
import socketserver
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.build.dockerfile.builder import DockerfileBuilder
from registry_pipelines.build.dockerfile.context import measure_context
from registry_pipelines.build.dockerfile.engines.docker import Docker as Classic
from registry_pipelines.build.dockerfile.engines.protocol import LAYOUT, Order
from registry_pipelines.build.dockerfile.engines.saved import clamped
from registry_pipelines.build.dockerfile.model import DockerfileSpec
from registry_pipelines.errors import BuildFailed, InputError, LayerInvalid, ToolMissing
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layout import Layout
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from tests.build.dockerfile.kit import LIMITS_S, Kit
from tests.doubles.docker_daemon import Docker
from tests.needs import needed_module
from tests.patience import patient

DATE = 1_700_000_000

pytestmark = pytest.mark.peer("dockerd", "docker", "busybox")


@pytest.fixture
def engine(docker20: Docker, monkeypatch: pytest.MonkeyPatch) -> Classic:
    needed_module("docker", "docker")
    monkeypatch.setenv("DOCKER_HOST", docker20.environment["DOCKER_HOST"])
    return Classic()


def spec(folder: Path, text: str, files: dict[str, str] | None = None, **more: object) -> DockerfileSpec:
    context = folder / "context"
    for name, content in {"a.txt": "a\n", "sub/b.txt": "b\n", "Dockerfile": text, **(files or {})}.items():
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text(content)
    given = {"name": "x", "version": "1", "context": context, "network": "host", **more}
    return DockerfileSpec(**given)  # type: ignore[arg-type]


def order(spec: DockerfileSpec, folder: Path, seconds: float = patient(60), **more: object) -> Order:
    folder.mkdir()
    given = {"spec": spec, "platforms": (Platform.here(),), "labels": {"l": "1"}, "source_date": DATE, "folder": folder}
    return Order(deadline=time.monotonic() + seconds, **{**given, **more})  # type: ignore[arg-type]


def layers(folder: Path) -> list[tarfile.TarFile]:
    layout = Layout(folder / LAYOUT)
    (top,) = layout.manifests()
    manifest = json.loads(layout.blob_path(top).read_bytes())
    blobs = [layout.blob_path(Digest.parse(layer["digest"])) for layer in manifest["layers"]]
    # Unpacked by gzip itself.
    return [tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob.read_bytes()))) for blob in blobs]


def test_an_image_is_built_pushed_by_digest_and_the_same_again(
    engine: Classic, docker20: Docker, peer: Callable[[str], str], tmp_path: Path
) -> None:
    text = "FROM base:1\nARG GREETING\nARG SOURCE_DATE_EPOCH\nCOPY . /c/\nRUN echo $GREETING $SOURCE_DATE_EPOCH >/x\n"
    wanted = spec(tmp_path, text, {".dockerignore": "Dockerfile\n"}, args={"GREETING": "hi"}, source_date=DATE)
    with EmbeddedServer(tmp_path / "registry") as server:
        digests = set()
        for name in ("one", "two"):
            place = Place(DistributionRegistry(server.address, plain_http=True), f"team/{name}")
            result = DockerfileBuilder(tmp_path / name, engines=[engine]).build(wanted, place)
            digests.add(result.descriptor.digest)
            # Nothing of the first is left for the second.
            docker20("image", "prune", "--force")
        command = [peer("skopeo"), "inspect", "--tls-verify=false", f"docker://{server.address}/team/two:1"]
        seen = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        docker20("pull", f"{server.address}/team/two:1")
        assert docker20("run", "--rm", "--net=host", f"{server.address}/team/two:1", "cat", "/x") == f"hi {DATE}\n"
    assert digests == {seen["Digest"]}
    assert result.engine.endswith("classic engine")
    assert [step.name[:11] for step in result.steps[:5]] == [
        "[1/7] FROM ",
        "[2/7] ARG G",
        "[3/7] ARG S",
        "[4/7] COPY ",
        "[5/7] RUN e",
    ]
    assert seen["Created"] == "2023-11-14T22:13:20Z" and seen["Labels"]["org.opencontainers.image.version"] == "1"


@pytest.mark.parametrize(
    ("files", "file"),
    [
        ({}, ""),
        ({".dockerignore": "Dockerfile\n"}, ""),
        ({".dockerignore": "Dockerfile\n.dockerignore\n"}, ""),
        ({"Dockerfile.dockerignore": "Dockerfile*\nsub\n", ".dockerignore": "Dockerfile*\n.dockerignore\n"}, ""),
        ({"Dockerfile.dockerignore": "Dockerfile*\n"}, ""),
        ({".dockerignore": "sub/**\n!sub/c\n", "sub/c": "c"}, "elsewhere"),
    ],
    ids=["none", "the Dockerfile", "and itself", "its own", "its own alone", "elsewhere"],
)
def test_steps_see_the_files_that_the_ignore_file_lets_through(
    engine: Classic, tmp_path: Path, files: dict[str, str], file: str
) -> None:
    text = "FROM base:1\nCOPY . /c/\n"
    (tmp_path / "elsewhere").write_text(text)
    more = {"file": tmp_path / file} if file else {}
    wanted = spec(tmp_path, text, files, **more)
    (wanted.context / "link").symlink_to("/nowhere")
    engine.build(made := order(wanted, tmp_path / "out"))
    (layer,) = layers(made.folder)[1:]
    members = {each.name.removeprefix("c/"): each for each in layer if each.name != "c"}
    assert set(members) == set(measure_context(wanted.context, wanted.path).paths)
    assert members["link"].linkname == "/nowhere" and members["a.txt"].mtime == DATE
    assert {(each.uid, each.gid) for each in members.values()} == {(0, 0)}


def test_a_failed_step_is_shown_with_its_line_and_last_lines(engine: Classic, tmp_path: Path) -> None:
    text = "FROM base:1\n\nRUN for n in 1 2 3; do echo line $n of tr0ub4dor; done; \\\n  exit 3\n"
    with pytest.raises(BuildFailed) as caught:
        engine.build(order(spec(tmp_path, text), tmp_path / "out", secret_values=("tr0ub4dor",)))
    error = caught.value
    assert (error.line, error.last_lines) == (3, ["line 1 of ***", "line 2 of ***", "line 3 of ***"])
    assert error.where.endswith("Dockerfile:3") and "returned a non-zero code: 3" in str(error)
    assert "tr0ub4dor" not in str(error)
    with pytest.raises(BuildFailed, match=r"Dockerfile:1: an image cannot be had: .*127\.0\.0\.1:9"):
        engine.build(order(spec(tmp_path, "FROM 127.0.0.1:9/gone:1\n"), tmp_path / "out2"))
    with pytest.raises(BuildFailed, match=r"Dockerfile:2: step \[2/3\] COPY absent /x failed"):
        engine.build(order(spec(tmp_path, "FROM base:1\nCOPY absent /x\n"), tmp_path / "out3"))


def test_the_time_limit_ends_the_step(engine: Classic, docker20: Docker, tmp_path: Path) -> None:
    text = "FROM base:1\nRUN echo begun; sleep 600\n"
    for seconds in LIMITS_S:
        with pytest.raises(BuildFailed, match=r"took longer than .* and was ended") as caught:
            engine.build(order(spec(tmp_path, text), tmp_path / f"out{seconds}", seconds=seconds))
        if caught.value.last_lines:
            break
    assert "in step [2/3] RUN echo" in str(caught.value)
    assert caught.value.line == 2 and caught.value.last_lines == ["begun"]
    until = time.monotonic() + patient(20)
    while docker20("ps", "--quiet") and time.monotonic() < until:
        time.sleep(0.1)
    assert docker20("ps", "--quiet") == ""


def test_what_it_would_drop_is_refused_before_anything_is_sent(
    engine: Classic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(DistributionRegistry("127.0.0.1:9", plain_http=True), "x")
    builder = DockerfileBuilder(tmp_path / "state", engines=[engine])
    wanted = spec(tmp_path, "FROM base:1\nRUN true\nCOPY --link a.txt /\nARG TARGETARCH\n")
    with EmbeddedServer(tmp_path / "registry") as server:
        place = Place(DistributionRegistry(server.address, plain_http=True), "x")
        with pytest.raises(InputError) as caught:
            builder.build(wanted, place)
        assert caught.value.where.endswith("Dockerfile:3")
        assert "line 3: COPY --link: the classic engine ignores it" in str(caught.value)
        assert "line 4: ARG TARGETARCH without default: it is empty in the classic engine" in str(caught.value)
        assert "docker-buildx" in caught.value.do
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
        with pytest.raises(ToolMissing, match=r"(?s)no engine that could run.*docker: no Docker daemon answers"):
            builder.build(spec(tmp_path, "FROM base:1\n"), place)


@pytest.mark.peer("../docker28/dockerd", "docker-buildx")
def test_docker_28_with_its_containerd_store(kit: Kit, tmp_path: Path) -> None:
    """It saves layers as they were pulled, which is compressed."""
    needed_module("docker", "docker")
    wanted = spec(tmp_path, f"FROM {kit.base}\nCOPY a.txt /a\nRUN cat /a > /b\n")
    Classic().build(made := order(wanted, tmp_path / "out"))
    base, copied, run = layers(made.folder)
    assert "./bin/busybox" in base.getnames() and copied.getnames() == ["a"]
    assert {each.name: each.mtime for each in run if each.isfile()} == {"b": DATE}
    layout = Layout(made.folder / LAYOUT)
    config = next(
        json.loads(path.read_bytes())
        for path in (layout.folder / "blobs/sha256").iterdir()
        if path.read_bytes().startswith(b"{") and b'"rootfs"' in path.read_bytes()
    )
    assert config["rootfs"]["diff_ids"][1:] == [str(Digest.of(plain(each))) for each in (copied, run)]


def plain(layer: tarfile.TarFile) -> bytes:
    assert layer.fileobj is not None
    layer.fileobj.seek(0)
    return layer.fileobj.read()


MEMBERS = st.lists(
    st.tuples(
        st.text(alphabet="abé/_", min_size=1, max_size=130).map(lambda name: name.strip("/") or "x"),
        st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE]),
        st.integers(0, 2000),
        st.one_of(st.integers(0, 2**31), st.floats(0, 2**31)),
    ),
    max_size=6,
)


@settings(max_examples=100, deadline=None)
@given(members=MEMBERS, form=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]), cut=st.integers(1, 3000))
def test_times_are_clamped_and_nothing_else(members: list[tuple[str, bytes, int, float]], form: int, cut: int) -> None:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=form) as tar:
        for name, kind, size, mtime in members:
            member = tarfile.TarInfo(name)
            member.type, member.mtime, member.linkname = kind, mtime, "target" * 30
            member.size = size if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(b"z" * member.size))
    data = raw.getvalue()
    pieces = [data[start : start + cut] for start in range(0, len(data), cut)]
    result = b"".join(clamped(pieces, DATE))
    assert len(result) == len(data) and (result == data) == all(mtime <= DATE for *_, mtime in members)
    with tarfile.open(fileobj=io.BytesIO(data)) as before, tarfile.open(fileobj=io.BytesIO(result)) as after:
        for old, new in zip(before, after, strict=True):
            assert new.mtime == min(old.mtime, DATE)
            assert (old.name, old.type, old.size, old.linkname) == (new.name, new.type, new.size, new.linkname)
    assert b"".join(clamped(pieces, None)) == data


def test_a_tar_that_ends_too_early_is_refused() -> None:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        member = tarfile.TarInfo("x")
        member.size = 1000
        tar.addfile(member, io.BytesIO(b"z" * 1000))
    with pytest.raises(LayerInvalid, match="ends too early"):
        list(clamped([raw.getvalue()[:700]], DATE))
    with pytest.raises(LayerInvalid, match="cannot be read"):
        list(clamped([b"no tar" * 1000], DATE))


def test_a_daemon_that_dies_while_its_image_is_read(
    engine: Classic, docker20: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its socket, with a connection that is cut within the image's tar."""
    real = docker20.environment["DOCKER_HOST"].removeprefix("unix://")
    with tempfile.TemporaryDirectory() as folder, cutting(real, f"{folder}/s") as cut:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/s")
        made = order(spec(tmp_path, "FROM base:1\nCOPY a.txt /\n"), tmp_path / "out")
        with pytest.raises(BuildFailed, match="the daemon went away while the image was read"):
            engine.build(made)
        assert cut
    assert not (made.folder / "saved.tar").exists()


@contextmanager
def cutting(real: str, path: str) -> Iterator[list[str]]:
    """A socket before another one, which closes what asks for an image after 100 KB; what it cut."""
    cut: list[str] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.socket(socket.AF_UNIX) as there, selectors.DefaultSelector() as sides:
                there.connect(real)
                for each in (self.request, there):
                    sides.register(each, selectors.EVENT_READ)
                saving, left = False, 100_000
                while True:
                    for side in [key.fileobj for key, _ in sides.select()]:
                        data = side.recv(65536)
                        saving |= side is self.request and b"/get HTTP" in data
                        left -= len(data) if saving and side is there else 0
                        if left < 0:
                            cut.append("image")
                        if not data or left < 0:
                            return
                        (there if side is self.request else self.request).sendall(data)

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

    with Server(path, Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield cut
        finally:
            server.shutdown()
            thread.join()
