"""StoredRegistry in Azure Blob Storage, by a server that is not ours."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner

from registry_pipelines.cli import main
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.stored import StoredRegistry
from registry_pipelines.stores.store import PART_BYTES, open_store
from tests.chain.fleet import Fleet, push, start
from tests.doubles.blob_stores import azure_server
from tests.registry.contract import RegistryContract, image, read, upload

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def azure(peer: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with azure_server(peer, tmp_path_factory.mktemp("azure")) as address:
        yield address


class TestAzure(RegistryContract):
    deletes_blobs = False

    @pytest.fixture
    def registry(self, azure: str) -> StoredRegistry:
        return StoredRegistry(open_store(f"{azure}/contract-{uuid.uuid4().hex}"))


def test_a_large_blob_goes_up_by_parts_and_comes_back(azure: str) -> None:
    registry = StoredRegistry(open_store(f"{azure}/large"))
    content = bytes(range(256)) * (3 * PART_BYTES // 256) + b"end"
    stored = upload(registry, "team/app", content)
    assert registry.blob_size("team/app", stored.digest) == len(content)
    assert Digest.of(read(registry, "team/app", stored.digest)) == stored.digest
    assert read(registry, "team/app", stored.digest, start=PART_BYTES - 2, stop=PART_BYTES + 2) == b"\xfe\xff\x00\x01"


def test_what_nothing_needs_is_freed(azure: str) -> None:
    store = open_store(f"{azure}/garbage")
    gone, stays = (image(StoredRegistry(store), "team/app", text, tag=text) for text in ("old", "new"))
    StoredRegistry(store).delete_manifest("team/app", gone.digest)
    time.sleep(1.1)  # clocks of stores know seconds, and what is as old as the mark counts as younger
    assert StoredRegistry(store).free_content(unused_s=86_400).waiting == 2
    assert StoredRegistry(store).blob_size("team/app", gone.digest) is None
    image(StoredRegistry(store), "other", "old", tag="v1")
    assert StoredRegistry(store).free_content(unused_s=0).blobs == 0
    for repository, digest in (("other", gone.digest), ("team/app", stays.digest)):
        assert StoredRegistry(store).blob_size(repository, digest) is not None


def test_a_registry_is_backed_up_there_and_comes_back(azure: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        fleet: Fleet = start(tmp_path, stack)
        text = fleet.path.read_text().replace(
            "registries:\n",
            f"registries:\n  vault: {{kind: store, address: '{azure}/vault'}}\n",
        )
        fleet.path.write_text(text + "backups:\n  nightly: {registries: [us], to: vault, keep: {last: 1}}\n")
        push(fleet.chain.place("app"), "latest")
        for words in (["backup"], ["backup"], ["expire"], ["drill", "--no-start"], ["restore", "--prefix", "back"]):
            ran = CliRunner().invoke(main, ["recover", *words, "--config", str(fleet.path), "--json"])
            assert ran.exit_code == 0, (words, ran.output)
        assert json.loads(ran.stdout)["result"]["results"][0]["facts"]["failed"] == 0
