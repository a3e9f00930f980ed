"""``collect garbage``: a folder, a registry that is served meanwhile, and those that are elsewhere."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from registry_pipelines.chain import Chain
from registry_pipelines.cli import main
from registry_pipelines.collect.apply import apply_plan
from registry_pipelines.config import load
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layout import Layout
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.answers import answered
from tests.collect.test_retention import KEEP_ONE, NOW, plan, push

CONFIG = """
registries:
  folder: {{kind: layout, root: {root}/folder}}
  served: {{kind: embedded, port: {port}, root: {root}/served}}
  aws: {{kind: ecr, account: "123456789012", region: eu-west-1}}
  google: {{kind: gar, project: some-project, location: europe-west1}}
  quay: {{kind: distribution, host: quay.io}}
  somewhere: {{kind: distribution, host: registry.example.com}}
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path / "served", garbage_interval_s=None) as running:
        yield running


@pytest.fixture
def config(tmp_path: Path, server: EmbeddedServer) -> Path:
    path = tmp_path / "registry-pipelines.yaml"
    path.write_text(CONFIG.format(root=tmp_path, port=server.port))
    return path


def grow_old(root: Path) -> None:
    then = time.time() - 2 * 86400
    for path in root.rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))


def asked(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["collect", "garbage", "--config", str(config), *arguments, "--json"])


def disk(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("blobs/*/*"))


@pytest.mark.parametrize("name", ["folder", "served"])
def test_what_a_plan_promised_is_free_on_the_disk_after_it(
    config: Path, server: EmbeddedServer, tmp_path: Path, name: str
) -> None:
    registry = LayoutRegistry(tmp_path / "folder") if name == "folder" else DistributionRegistry(server.address)
    place = Place(registry, "team/app")
    push(place, "old", days_ago=90, layers=(b"x" * 100_000,))
    push(place, "new", days_ago=60)
    promised = plan(registry, KEEP_ONE)
    before = disk(tmp_path / name)
    assert apply_plan(registry, promised, now=NOW).ok
    loose = push_blob(place, b"not yet named", media_type=media_types.OCI_LAYER)
    young = answered(asked(config, name).stdout)
    assert (young["action"], young["facts"]["freed_bytes"]) == ("nothing to free", 0)
    grow_old(tmp_path / name)
    told = answered(asked(config, name, "--dry-run").stdout)
    assert not told["changed"] and told["action"].startswith("would free")
    done = answered(asked(config, name).stdout)
    assert done["changed"] and done["facts"] == told["facts"] and done["rows"] == told["rows"]
    assert before - disk(tmp_path / name) == promised.freed_bytes
    assert registry.blob_size("team/app", loose.digest) is None and list(registry.tags("team/app")) == ["new"]


def test_pushed_just_now_goes_only_where_nobody_pushes(config: Path, tmp_path: Path) -> None:
    place = Place(LayoutRegistry(tmp_path / "folder"), "team/app")
    push(place, "v1", days_ago=1)
    push_blob(place, b"loose", media_type=media_types.OCI_LAYER)
    assert asked(config, "folder", "--unused", "30s").exit_code == 8
    assert answered(asked(config, "folder", "--unused", "1h").stdout)["facts"]["blobs"] == 0
    assert answered(asked(config, "folder", "--unused", "0s").stdout)["facts"]["blobs"] == 1


def test_a_manifest_in_a_folder_starts_the_time_of_its_blobs_again(config: Path, tmp_path: Path) -> None:
    """Its layers were found two days ago and not sent again; one of them is on its way out."""
    registry = LayoutRegistry(tmp_path / "folder")
    place = Place(registry, "team/app")
    image = push(place, "v1", days_ago=1)
    registry.delete_manifest("team/app", image.digest)
    grow_old(tmp_path / "folder")
    Layout(tmp_path / "folder/team/app").put_aside(Digest.of(b"layer of v1"))
    registry.put_manifest("team/app", image, tag="v1")
    registry.delete_manifest("team/app", image.digest)
    assert answered(asked(config, "folder").stdout)["facts"]["blobs"] == 0
    assert registry.blob_size("team/app", Digest.of(b"layer of v1")) == len(b"layer of v1")


def test_a_repository_that_cannot_be_read_is_named_and_left(config: Path, tmp_path: Path) -> None:
    place = Place(LayoutRegistry(tmp_path / "folder"), "team/app")
    image = push(place, "v1", days_ago=1)
    (tmp_path / "folder/team/app/blobs/sha256" / image.digest.hex).write_bytes(b"damaged")
    answer = asked(config, "folder")
    told = answered(answer.stdout)
    assert answer.exit_code == 6 and not told["ok"] and "team/app" in told["reasons"][0]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("aws", "referrers of a deleted image go within 24 hours"),
        ("google", "cleanup policies"),
        ("quay", "quay.expires-after"),
        ("somewhere", "never give `-m`"),
    ],
)
def test_for_others_it_says_who_frees_and_asks_nobody(config: Path, name: str, said: str) -> None:
    """Nothing of these hosts can be reached from here."""
    told = Chain(load(config)).garbage(name)
    assert told.ok and not told.changed and any(said in note for note in told.notes)


def test_what_is_not_here_is_said(config: Path) -> None:
    assert asked(config, "folder").exit_code == 8, "there is no such folder yet"
    assert asked(config, "fodler").exit_code == 8
    assert asked(config, "served", "--check", "/dev/null", "--dry-run").exit_code == 8
    by_night = Chain(load(config)).garbage("folder", if_here=True)
    assert by_night.ok and not by_night.changed and "not on this machine" in by_night.notes[0]
