"""Two implementations that are not ours as one ECR: moto gives the log-in and knows images, docker-registry has bytes.

What is pushed to docker-registry with moto's password is told to moto by docker-registry's own notifications, with its
true digest, as ECR would have it.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest

from registry_pipelines.errors import Unauthorized
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.ecr.access import AwsAccess
from registry_pipelines.registry.ecr.images import EcrImages
from registry_pipelines.registry.ecr.registry import EcrRegistry
from registry_pipelines.registry.ecr.uploads import PART_BYTES
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.verify import compare
from tests.doubles.aws.behind import moto_address
from tests.doubles.aws.ecr import EcrDouble
from tests.doubles.aws.ecr_places import Upstream
from tests.doubles.aws.model import SECRET_KEY
from tests.doubles.docker_registry import DockerRegistry
from tests.needs import needed_module
from tests.patience import patient
from tests.scan.images import push_image

HOST = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
MANIFESTS = "application/vnd.oci.image"


class Notified:
    """Puts what is pushed into moto. seen: how many manifests."""

    def __init__(self, ecr: Any) -> None:
        self.seen, self._ecr, self.registry = threading.Semaphore(0), ecr, ""
        self.password = ""
        notified = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()
                for event in body["events"]:
                    if event["action"] == "push" and event["target"]["mediaType"].startswith(MANIFESTS):
                        notified.put(event["target"])

            def log_message(self, format: str, *_: object) -> None:
                """Nothing is printed."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def put(self, target: dict[str, Any]) -> None:
        there = DistributionRegistry(self.registry, username="AWS", password=self.password)
        manifest = there.get_manifest(target["repository"], target["digest"])
        there.close()
        tag = {"imageTag": target["tag"]} if target.get("tag") else {}
        self._ecr.put_image(
            repositoryName=target["repository"],
            imageManifest=manifest.raw.decode(),
            imageManifestMediaType=manifest.media_type,
            imageDigest=str(manifest.digest),
            **tag,
        )
        self.seen.release()


@pytest.fixture
def made(peer: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, str]]:
    needed_module("flask", "dev")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    host, port = moto_address()
    ecr = boto3.Session().client("ecr", region_name="eu-west-1", endpoint_url=f"http://{host}:{port}")
    ecr.create_repository(repositoryName="team/app")
    notified = Notified(ecr)
    # moto's password: what follows AWS: in the token, as ECR has it.
    access = AwsAccess("eu-west-1", endpoint=f"http://{host}:{port}")
    notified.password = EcrRegistry(HOST, access=access)._api.find().password
    thread = threading.Thread(target=notified.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{notified.server.server_address[1]}/"
    users = {"AWS": notified.password}
    with DockerRegistry(peer("docker-registry"), tmp_path / "docker", users=users, notify=address) as behind:
        notified.registry = behind.address
        yield notified, behind.address
    notified.server.shutdown()
    notified.server.server_close()
    ecr.delete_repository(repositoryName="team/app", force=True)


@pytest.mark.peer("docker-registry")
def test_an_image_is_copied_with_motos_log_in_and_listed_by_moto(made: tuple[Any, str], tmp_path: Path) -> None:
    notified, address = made
    host, port = moto_address()
    there = Place(DistributionRegistry(address, username="AWS", password=notified.password), "team/app")
    with EmbeddedServer(tmp_path / "source") as server:
        here = Place(DistributionRegistry(server.address), "app")
        pushed = push_image(here, [{"etc/hostname": "x"}], tag="v1")
        copy_closure(here, "v1", [there])
        assert compare(here, there, "v1", content=True) == []
    assert notified.seen.acquire(timeout=patient(20))
    images = EcrImages("123456789012", AwsAccess("eu-west-1", endpoint=f"http://{host}:{port}"))
    assert [(image.digest, image.tags) for image in images.list_images("team/app")] == [(pushed.digest, ("v1",))]
    with pytest.raises(Unauthorized):
        DistributionRegistry(address, username="AWS", password="another").resolve("team/app", "v1")


@pytest.mark.peer("docker-registry")
def test_docker_registry_has_the_bytes_behind_the_double(made: tuple[Any, str], tmp_path: Path) -> None:
    """Its large layers come by ECR's API in parts, its small ones by the protocol; both are in docker-registry."""
    notified, address = made
    given = "Basic " + base64.b64encode(f"AWS:{notified.password}".encode()).decode()
    with EcrDouble(address) as double, EmbeddedServer(tmp_path / "source") as server:
        double.here.content = Upstream(address, {"Authorization": given})
        access = AwsAccess("eu-west-1", endpoint=double.url)
        there = Place(EcrRegistry(HOST, access=access, dial=double.proxy_address, plain_http=True), "team/app")
        here = Place(DistributionRegistry(server.address), "app")
        push_image(here, [{"etc/hostname": "x"}], tag="v1")
        copy_closure(here, "v1", [there])
        assert compare(here, there, "v1", content=True) == []
        direct = Place(DistributionRegistry(address, username="AWS", password=notified.password), "team/app")
        assert compare(here, direct, "v1") == []
        large = bytes(PART_BYTES + 1)
        push_blob(there, large, media_type="application/x")
        assert double.count("CompleteLayerUpload") == 1
        assert direct.registry.blob_size(direct.repository, Digest.of(large)) == len(large)
