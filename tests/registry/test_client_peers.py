"""Independent programs and our client on one registry: what either writes, the other reads."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry_pipelines.errors import Refused, TlsFailed
from registry_pipelines.evidence.artifacts import attach, attached
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from tests.doubles.certificates import Certificates, make_certificates
from tests.doubles.docker_registry import DockerRegistry
from tests.patience import patient
from tests.registry.contract import image

KIND = "application/vnd.example.note.v1+json"
DOCKER_REGISTRY = pytest.param("docker-registry", marks=pytest.mark.peer("docker-registry"))


def run(*command: str | Path, folder: Path | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, cwd=folder, timeout=patient(60)
    )
    assert done.returncode == 0, f"{command}: {done.stderr}\n{done.stdout}"
    return done.stdout


@pytest.fixture(params=["embedded", DOCKER_REGISTRY])
def place(request: pytest.FixtureRequest, tmp_path: Path, peer: Callable[[str], str]) -> Iterator[Place]:
    if request.param == "embedded":
        with EmbeddedServer(tmp_path / "registry") as server:
            yield Place(DistributionRegistry(server.address), "team/app")
    else:
        with DockerRegistry(peer("docker-registry"), tmp_path / "registry") as other:
            yield Place(DistributionRegistry(other.address), "team/app")


@pytest.mark.peer("oras")
def test_oras_sees_what_we_attach(place: Place, peer: Callable[[str], str]) -> None:
    subject = image(place.registry, "team/app", "text", tag="v1").descriptor
    ours = attach(place, subject=subject, artifact_type=KIND, content=b"{}", media_type=KIND, annotations={"a": "b"})
    seen = json.loads(run(peer("oras"), "discover", "--plain-http", "--format", "json", f"{place}:v1"))
    referrers = seen.get("referrers") or seen.get("manifests")
    assert [(one["digest"], one["artifactType"]) for one in referrers] == [(ours.digest, KIND)]


@pytest.mark.peer("oras")
def test_we_see_what_oras_attaches_and_both_keep_the_others(
    place: Place, peer: Callable[[str], str], tmp_path: Path
) -> None:
    subject = image(place.registry, "team/app", "text", tag="v1").descriptor
    (tmp_path / "note.json").write_text('{"from": "oras"}')
    command = [peer("oras"), "attach", "--plain-http", "--artifact-type", KIND, f"{place}:v1", f"note.json:{KIND}"]
    attach(place, subject=subject, artifact_type=KIND, content=b'{"n": 1}', media_type=KIND)
    run(*command, folder=tmp_path)
    attach(place, subject=subject, artifact_type=KIND, content=b'{"n": 2}', media_type=KIND)
    contents = {one.content for one in attached(place, subject.digest, artifact_type=KIND)}
    assert contents == {b'{"n": 1}', b'{"from": "oras"}', b'{"n": 2}'}


@pytest.mark.peer("skopeo")
def test_skopeo_reads_what_we_push(place: Place, peer: Callable[[str], str], tmp_path: Path) -> None:
    made = image(place.registry, "team/app", "text", tag="v1")
    seen = run(peer("skopeo"), "inspect", "--raw", "--tls-verify=false", f"docker://{place}:v1")
    assert seen.encode() == made.raw
    listed = json.loads(run(peer("skopeo"), "list-tags", "--tls-verify=false", f"docker://{place}"))
    assert listed["Tags"] == ["v1"] == list(place.registry.tags("team/app"))


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path / "pem")


@pytest.mark.peer("docker-registry", "skopeo")
def test_htpasswd_and_tls_with_docker_registry(
    peer: Callable[[str], str], tmp_path: Path, certificates: Certificates
) -> None:
    """We push with a docker config.json that skopeo wrote; skopeo reads it back under the same authority."""
    users = {"ci": "pass:word"}
    keys = {"certificate": certificates.certificate, "key": certificates.key}
    with DockerRegistry(peer("docker-registry"), tmp_path / "registry", users=users, **keys) as server:
        config = tmp_path / "auth.json"
        common: list[str | Path] = ["--cert-dir", tmp_path / "certs", "--authfile", config]
        (tmp_path / "certs").mkdir()
        (tmp_path / "certs" / "ca.crt").write_bytes(certificates.ca.read_bytes())
        run(peer("skopeo"), "login", *common, "-u", "ci", "-p", "pass:word", server.address)
        registry = DistributionRegistry(server.address, ca_file=certificates.ca, docker_config=config)
        made = image(registry, "team/app", "text", tag="v1")
        seen = run(peer("skopeo"), "inspect", "--raw", *common, f"docker://{server.address}/team/app:v1")
        plain = DistributionRegistry(server.address)  # as on loopback unless told
        with pytest.raises(TlsFailed, match="the registry speaks TLS there"):
            list(plain.tags("team/app"))
        with pytest.raises(Refused, match="If it speaks TLS there, set plain_http: false"):
            plain.resolve("team/app", "v1")
    assert seen.encode() == made.raw


_ATTACH = """
import sys
from registry_pipelines.oci.digest import Digest
from registry_pipelines.evidence.artifacts import attach
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
address, kind, name = sys.argv[1:]
place = Place(DistributionRegistry(address), "team/app")
subject = place.registry.resolve("team/app", "v1")
for number in range(4):
    attach(place, subject=subject, artifact_type=kind, content=f"{name}{number}".encode(), media_type=kind)
"""


@pytest.mark.peer("docker-registry")
def test_processes_that_attach_at_once_lose_nothing(peer: Callable[[str], str], tmp_path: Path) -> None:
    with DockerRegistry(peer("docker-registry"), tmp_path) as server:
        place = Place(DistributionRegistry(server.address), "team/app")
        subject = image(place.registry, "team/app", "text", tag="v1").digest
        command = [sys.executable, "-c", _ATTACH, server.address, KIND]
        processes = [subprocess.Popen([*command, name]) for name in "abc"]
        assert [one.wait(patient(60)) for one in processes] == [0, 0, 0]
        contents = {one.content.decode() for one in attached(place, subject, artifact_type=KIND)}
        assert contents == {f"{name}{number}" for name in "abc" for number in range(4)}
        assert isinstance(subject, Digest)


def test_a_registry_on_ipv6(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path, host="::1") as server:
        registry = DistributionRegistry(server.address)
        made = image(registry, "team/app", "text", tag="v1")
        assert registry.resolve("team/app", "v1") == made.descriptor
