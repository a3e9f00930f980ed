"""What others wrote: models of other programs, and lists that are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Manifest, manifest_bytes
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.weights.listed import list_of, parse_list
from registry_pipelines.weights.model import WeightFile, weight_set
from tests.weights.conftest import call, done, files_of

PREFIX = "application/vnd.cncf.model"


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def store(place: Place, layers: list[tuple[str, str, bytes]], *, annotation: str = "org.cncf.model.filepath") -> None:
    """A model by hand: (type, path, content) for each layer."""
    described = []
    for kind, path, content in layers:
        blob = push_blob(place, content, media_type=f"{PREFIX}.{kind}")
        described.append(
            Descriptor(
                media_type=f"{PREFIX}.{kind}", digest=blob.digest, size=blob.size, annotations={annotation: path}
            )
        )
    config = {
        "descriptor": {"name": "m", "createdAt": "2026-01-01T00:00:00Z"},
        "config": {"paramSize": "8b"},
        "modelfs": {"type": "layers", "diffIds": [str(each.digest) for each in reversed(described)]},
    }
    manifest = manifest_bytes(
        Manifest(
            schema_version=2,
            media_type=media_types.OCI_MANIFEST,
            artifact_type=f"{PREFIX}.manifest.v1+json",
            config=push_blob(place, json.dumps(config).encode(), media_type=f"{PREFIX}.config.v1+json"),
            layers=tuple(described),
            annotations={"org.example": "kept"},
        )
    )
    place.registry.put_manifest(place.repository, manifest, tag="1")


@pytest.fixture
def place(address: str, client: Callable[[str], DistributionRegistry]) -> Place:
    return Place(client(address), "m")


def test_a_model_of_another_program_is_read(place: Place, tmp_path: Path) -> None:
    """Files in another order, named by the title alone, of every type."""
    layers = [("weight.v1.raw", "w.gguf", b"GGUF1234"), ("dataset.v1.raw", "d/a.csv", b"1"), ("doc.v1.raw", "R", b"r")]
    store(place, layers, annotation="org.opencontainers.image.title")
    done("pull", f"{place}:1", "--to", tmp_path / "m")
    assert files_of(tmp_path / "m") == {path: content for _, path, content in layers}
    assert done("verify", f"{place}:1")["facts"]["whole"] == 3


def test_archives_are_listed_and_not_opened(place: Place, tmp_path: Path) -> None:
    store(place, [("weight.v1.tar", "w", b"tar"), ("doc.v1.raw", "R", b"r")])
    assert [row["path"] for row in done("ls", f"{place}:1")["rows"]] == ["w", "R"]
    refused = call("pull", f"{place}:1", "--to", tmp_path / "m")
    assert refused.exit_code == 8 and "w lies in an archive" in refused.output and not (tmp_path / "m").exists()


@pytest.mark.parametrize("path", ["../../escaped", "/tmp/escaped", ""])
def test_a_path_that_leads_out_is_refused_before_anything_comes(place: Place, tmp_path: Path, path: str) -> None:
    store(place, [("weight.v1.raw", path, b"GGUF1234")])
    refused = call("pull", f"{place}:1", "--to", tmp_path / "a" / "b" / "m")
    assert refused.exit_code == 6 and "does not lie below the folder" in refused.output
    assert not (tmp_path / "a").exists()


def listed() -> bytes:
    content = Digest.of(b"w")
    file = WeightFile("w.gguf", content, 1, "weights", f"{PREFIX}.weight.v1.raw")
    return msgspec.json.encode(list_of(weight_set([file]), content))


def test_our_list_is_read_and_changed_ones_are_not() -> None:
    assert parse_list(listed()).files[0].path == "w.gguf"
    for old, new in (
        (b'"format":1', b'"format":2'),
        (b"registry-pipelines: weights", b"other"),
        (b"w.gguf", b"../w"),
        (b'"sha256":"', b'"sha256":"Z'),
        (b'"size":1', b'"size":-1'),
    ):
        assert old in listed()
        with pytest.raises(ManifestInvalid):
            parse_list(listed().replace(old, new))


@given(st.binary(max_size=200))
def test_no_other_bytes_are_a_list(raw: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        parse_list(raw)
