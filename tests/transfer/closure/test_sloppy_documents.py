"""Documents as sloppy programs write them: what crane, oras and skopeo copy, we store, read and copy, byte for byte."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import ManifestBytes
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.copying import copy_closure
from tests.patience import patient

if TYPE_CHECKING:
    from registry_pipelines.registry.client import DistributionRegistry
    from tests.transfer.conftest import Counted, Graphs

CASES = ["layers null", "layers absent", "members null", "media type absent", "index null", "platform null"]
COPY = {
    "crane": ["copy", "--insecure"],
    "oras": ["copy", "--from-plain-http", "--to-plain-http"],
    "skopeo": ["copy", "--all", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false"],
}


def document(case: str, image: ManifestBytes) -> ManifestBytes:
    """The image's manifest, or an index of it, as the case says."""
    plain = json.loads(image.raw)
    row = {"mediaType": image.media_type, "digest": str(image.digest), "size": len(image.raw)}
    index = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX}
    documents = {
        "layers null": {**plain, "layers": None},
        "layers absent": {key: value for key, value in plain.items() if key != "layers"},
        "members null": {**plain, "annotations": None, "subject": None, "artifactType": None},
        "media type absent": {key: value for key, value in plain.items() if key != "mediaType"},
        "index null": {**index, "manifests": None},
        "platform null": {**index, "manifests": [{**row, "platform": None, "annotations": None, "urls": None}]},
    }
    raw = json.dumps(documents[case]).encode()
    kind = media_types.OCI_INDEX if case in ("index null", "platform null") else media_types.OCI_MANIFEST
    return ManifestBytes(raw, kind, Digest.of(raw))


@pytest.mark.parametrize("case", CASES)
def test_we_copy_them_between_embedded_registries(source: Counted, target: Counted, graphs: Graphs, case: str) -> None:
    made = document(case, graphs.image(source.place("app"), b"layer"))
    source.registry.put_manifest("app", made, tag="v1")
    copy_closure(source.place("app"), "v1", [target.place("app")])
    assert target.registry.get_manifest("app", "v1").raw == made.raw


@pytest.mark.peer("docker-registry")
@pytest.mark.parametrize("case", CASES)
def test_docker_registry_takes_them_of_us(
    source: Counted,
    start_docker_registry: Callable[..., str],
    connect: Callable[..., DistributionRegistry],
    graphs: Graphs,
    case: str,
) -> None:
    made = document(case, graphs.image(source.place("app"), b"layer"))
    source.registry.put_manifest("app", made, tag="v1")
    there = Place(connect(start_docker_registry()), "app")
    copy_closure(source.place("app"), "v1", [there])
    assert there.registry.get_manifest("app", "v1").raw == made.raw


@pytest.mark.parametrize("program", [pytest.param(name, marks=pytest.mark.peer(name)) for name in COPY])
@pytest.mark.parametrize("case", CASES)
def test_others_copy_them_from_and_to_the_embedded_server(
    source: Counted, target: Counted, graphs: Graphs, peer: Callable[[str], str], program: str, case: str
) -> None:
    made = document(case, graphs.image(source.place("app"), b"layer"))
    source.registry.put_manifest("app", made, tag="v1")
    scheme = "docker://" if program == "skopeo" else ""
    names = [f"{scheme}{place.address}/app:v1" for place in (source, target)]
    command = [peer(program), *(["--insecure-policy"] if scheme else []), *COPY[program], *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=patient(60))
    if program == "skopeo" and case == "index null":
        assert "cannot modify it" in done.stderr, "skopeo 1.9.3 reads it and would write [] for null"
        return
    assert done.returncode == 0, done.stderr
    assert target.registry.get_manifest("app", "v1").raw == made.raw
