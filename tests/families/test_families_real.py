"""Where a family's program is at hand, its table is held against it: every row is what the program really does."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Index, manifest_bytes
from registry_pipelines.oci.media_types import OCI_INDEX, OCI_MANIFEST
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from tests.doubles.docker_registry import DockerRegistry
from tests.doubles.families import FamilyServer
from tests.doubles.families.distribution import DISTRIBUTION_2
from tests.families.content import SIGNED_TAG, push_signed
from tests.patience import patient

MISSING = Descriptor(media_type=OCI_MANIFEST, digest=Digest.of(b"never pushed"), size=12)
SPARSE = manifest_bytes(Index(schema_version=2, media_type=OCI_INDEX, manifests=(MISSING,))).raw
REQUESTS: tuple[tuple[str, str, dict[str, str], bytes], ...] = (
    ("GET", f"/v2/signed/referrers/{MISSING.digest}", {}, b""),
    ("DELETE", f"/v2/signed/manifests/{SIGNED_TAG}", {}, b""),
    ("PUT", "/v2/signed/manifests/sparse", {"Content-Type": OCI_INDEX}, SPARSE),
    ("HEAD", f"/v2/signed/manifests/{SIGNED_TAG}", {"Accept": "*/*"}, b""),
    ("GET", f"/v2/signed/manifests/{SIGNED_TAG}", {"Accept": "*/*"}, b""),
    ("GET", "/v2/emptied/tags/list", {}, b""),
)


def fill(address: str) -> None:
    client = DistributionRegistry(address)
    push_signed(Place(client, "signed"))
    push_blob(Place(client, "emptied"), b"a blob alone", media_type="text/plain")
    client.close()


def answers(address: str) -> list[tuple[int, str]]:
    """Status and error code of each request; without a code, whether the answer is JSON."""
    found = []
    for method, path, headers, body in REQUESTS:
        connection = http.client.HTTPConnection(address, timeout=patient(30))
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        raw = answer.read()
        connection.close()
        code = json.loads(raw)["errors"][0]["code"] if raw.startswith(b"{") else "no JSON"
        found.append((answer.status, code))
    return found


@pytest.mark.peer("docker-registry")
def test_docker_registry_does_what_its_table_says(peer: Callable[[str], str], tmp_path: Path) -> None:
    with (
        DockerRegistry(peer("docker-registry"), tmp_path / "real") as real,
        FamilyServer(DISTRIBUTION_2, tmp_path / "double") as double,
    ):
        for address in (real.address, double.address):
            fill(address)
        double.hits.clear()
        assert answers(double.address) == answers(real.address)
        assert set(double.hits) == {row.name for row in DISTRIBUTION_2.rows}
