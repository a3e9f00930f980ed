"""Content made to harm, and registries that lie: the command says what is wrong, ends, and has written nothing."""

from __future__ import annotations

import gzip
import http.server
import io
import json
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from registry_pipelines.cli import main
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Index, Manifest, manifest_bytes
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.embedded.application import Handler
from registry_pipelines.registry.embedded.heads import Request
from registry_pipelines.registry.embedded.responses import Response
from registry_pipelines.registry.protocol import Place
from tests.answers import answered
from tests.cli.test_bad_input import fails
from tests.registry.contract import image

BOMB_BYTES = 704 * 1024 * 1024


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with EmbeddedServer(tmp_path / "source") as server:
        registry = DistributionRegistry(server.address)
        yield Place(registry, "hostile/app")
        registry.close()


@pytest.fixture
def target(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path / "target") as server:
        yield server


def written(server: EmbeddedServer) -> list[Path]:
    return [path for path in server.root.rglob("*") if path.is_file() and path.parent.parent.name == "blobs"]


def header(name: str, size: int = 0) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf()


def tar(name: str, content: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return made.getvalue()


def bomb() -> bytes:
    """A file of zeros: 1000 times smaller than what it unfolds to."""
    part = BOMB_BYTES // 11
    return gzip.compress(header("zeros", BOMB_BYTES)) + gzip.compress(bytes(part)) * 11


def push_layer(place: Place, layer: bytes) -> Descriptor:
    """An image with this very layer, whose digest is right."""
    pushed = push_blob(place, layer, media_type=media_types.OCI_LAYER_GZIP)
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [f"sha256:{0:064x}"]}}
    made = manifest_bytes(
        Manifest(
            schema_version=2,
            media_type=media_types.OCI_MANIFEST,
            config=push_blob(place, json.dumps(config).encode(), media_type=media_types.OCI_CONFIG),
            layers=(pushed,),
        )
    )
    place.registry.put_manifest(place.repository, made, tag="v1")
    return made.descriptor


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        pytest.param(gzip.compress(tar("a", bytes(range(256)) * 400))[:-500], "truncated", id="cut"),
        pytest.param(bomb(), "bomb", id="bomb"),
        pytest.param(gzip.compress(tar("/etc/passwd", b"root")), "absolute", id="absolute"),
        pytest.param(gzip.compress(tar("a/../../etc/passwd", b"root")), "climbs", id="dots"),
        pytest.param(gzip.compress(tar("etc/fine", b"x")), "hashes to", id="another diff id"),
    ],
)
def test_layers_that_lie(place: Place, layer: bytes, said: str) -> None:
    made = push_layer(place, layer)
    for command in ("sbom", "scan"):
        fails(6, said, command, f"{place}:v1")
    assert place.registry.referrers(place.repository, made.digest) == []


def test_indexes_in_indexes_without_end(place: Place, target: EmbeddedServer) -> None:
    inner = push_layer(place, gzip.compress(tar("a", b"x")))
    for _ in range(30):
        index = manifest_bytes(Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=(inner,)))
        place.registry.put_manifest(place.repository, index, tag="deep")
        inner = index.descriptor
    for command in (["inspect"], ["scan"], ["copy"]):
        extra = [f"{target.address}/x"] if command == ["copy"] else []
        fails(6, "nested", *command, f"{place}:deep", *extra)
    assert written(target) == []


@contextmanager
def lying(documents: dict[str, tuple[str, bytes]]) -> Iterator[tuple[str, Counter[str]]]:
    """A registry that answers the end of a path with a document, whatever its digest is; and what it was asked."""
    asked: Counter[str] = Counter()

    class Liar(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked[self.path] += 1
            place = "/".join(self.path.partition("?")[0].split("/")[-2:])
            kind, body = documents.get(place, ("application/json", b"{}"))
            self.send_response(200 if place in documents or self.path == "/v2/" else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Liar) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()


def test_an_index_that_is_its_own_child(target: EmbeddedServer) -> None:
    """Digests forbid it; a registry that answers with the same index under the child's digest looks like it."""
    child = Digest.of(b"somewhere below")
    loop = manifest_bytes(
        Index(
            schema_version=2,
            media_type=media_types.OCI_INDEX,
            manifests=(Descriptor(media_type=media_types.OCI_INDEX, digest=child, size=300),),
        )
    )
    known = (media_types.OCI_INDEX, loop.raw)
    with lying({f"manifests/{name}": known for name in ("x", loop.digest, child)}) as (address, asked):
        for command in (["inspect"], ["scan"], ["copy"]):
            extra = [f"{target.address}/x"] if command == ["copy"] else []
            fails(6, str(child), *command, f"{address}/a/b:x", *extra)
        assert asked.total() < 100
    assert written(target) == []


def test_artifacts_that_refer_to_each_other(target: EmbeddedServer) -> None:
    """Digests forbid it; a list of referrers that names the image itself looks like it."""
    made = manifest_bytes(
        Manifest(
            schema_version=2,
            media_type=media_types.OCI_MANIFEST,
            artifact_type="text/x-loop",
            config=Descriptor(media_type=media_types.OCI_EMPTY, digest=Digest.of(b"{}"), size=2),
            layers=(),
        )
    )
    entry = {"mediaType": media_types.OCI_MANIFEST, "digest": str(made.digest), "size": len(made.raw)}
    listed = json.dumps({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [entry]}).encode()
    documents = {f"manifests/{name}": (media_types.OCI_MANIFEST, made.raw) for name in ("x", made.digest)}
    documents[f"referrers/{made.digest}"] = (media_types.OCI_INDEX, listed)
    with lying(documents) as (address, asked):
        shown = CliRunner().invoke(main, ["inspect", "--json", f"{address}/a/b:x"])
        [told] = answered(shown.stdout)["left_out"]
        assert (shown.exit_code, told["kind"], told["what"]) == (0, "claim", made.digest)
        assert "names no subject" in told["why"]
        assert asked.total() < 100


def test_names_of_a_registry_do_nothing_to_a_terminal(tmp_path: Path, target: EmbeddedServer) -> None:
    """Its catalogue and its tags are whatever it writes: colours, cursor movements, turned directions, line ends."""
    odd = "e\x1b[31mvil\x07\u202ex\r\n- all is well\x9b2J"

    def wrap(inner: Handler) -> Handler:
        def answer(request: Request) -> Response:
            named = {"/v2/_catalog": ("repositories", "ok"), "/v2/ok/tags/list": ("tags", "v1")}.get(request.path)
            if named is None:
                return inner(request)
            return Response(
                200, [("Content-Type", "application/json")], json.dumps({named[0]: [named[1], odd]}).encode()
            )

        return answer

    with EmbeddedServer(tmp_path / "source", wrap=wrap) as server:
        client = DistributionRegistry(server.address)
        image(client, "ok", "text", tag="v1")
        for more in ([], ["--dry-run"]):
            done = CliRunner().invoke(main, ["sync", server.address, target.address, *more], color=True)
            assert done.exit_code == 6
            assert not any(character in done.output for character in "\x1b\x07\x9b\r\u202e"), done.output
            assert "\n- all is well" not in done.output
            assert done.output.count("- all is well") >= 2
        client.close()
