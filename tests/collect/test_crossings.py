"""What a sync or a mirror has still to bring elsewhere stays until it is there."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from registry_pipelines.chain import Chain
from registry_pipelines.chain.bundle_create import near_state
from registry_pipelines.chain.live import live_digests
from registry_pipelines.chain.session import Session
from registry_pipelines.collect.apply import apply_plan
from registry_pipelines.collect.live import Live
from registry_pipelines.collect.make import plan_retention
from registry_pipelines.collect.rules import RetentionRule
from registry_pipelines.config import load
from registry_pipelines.evidence.keys import generate_key, load_signer
from registry_pipelines.mirror.bundle.receipt import BundleReceipt, HeldRepository, sign_receipt
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, ManifestBytes
from registry_pipelines.progress import Silent
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place, UploadSession
from registry_pipelines.registry.tags import put_tag
from registry_pipelines.transfer.blob.journal import Journal
from tests.inventory.usage.test_saved import put

CONFIG = """\
registries:
  dmz: {{kind: layout, root: dmz}}
  private: {{kind: layout, root: private}}
retention: [{{registry: dmz, keep_newest: 0, keep_days: 0}}]
collect: {{quarantine: 0}}
{}
"""
SYNC = """\
targets: {far: {registry: private, prefix: copies}}
syncs: {all: {source: dmz, targets: [far], repositories: ["team/*"], tags: ["v*"]}}
"""
MIRROR = """\
mirrors:
  public: {via: dmz, to: private, across: ACROSS, upstreams: [{image: docker.io/library/python, tags: ["3.*"]}]}
"""


class World:
    def __init__(self, folder: Path, more: str) -> None:
        self.folder = folder
        self.config = folder / "registry-pipelines.yaml"
        self.config.write_text(CONFIG.format(more))
        self.dmz, self.private = LayoutRegistry(folder / "dmz"), LayoutRegistry(folder / "private")

    def put(self, repository: str, tag: str) -> ManifestBytes:
        return put(Place(self.dmz, repository), tag)

    def bring(self, repository: str, tag: str) -> ManifestBytes:
        return put(Place(self.private, repository), tag)

    def stays(self) -> dict[str, str]:
        """Tag to why it stays, empty for what goes."""
        plan = Chain(load(self.config)).plan_retention("dmz")
        assert not any(each.refused for each in plan.repositories)
        return {
            tag: "; ".join(entry.reasons) for each in plan.repositories for entry in each.entries for tag in entry.tags
        }


def test_what_a_sync_takes_stays_until_each_target_has_it(tmp_path: Path) -> None:
    world = World(tmp_path, SYNC)
    for tag in ("v1", "v2", "main"):
        world.put("team/app", tag)
    world.put("other/app", "v9")
    world.bring("copies/team/app", "v1")
    put(Place(world.private, "copies/team/app"), "v2", config={"another": "build"})
    assert world.stays() == {
        "v1": "",
        "v2": "tag v2 is still to be brought on: sync all to far",
        "main": "",
        "v9": "",
    }


def test_what_a_mirror_takes_stays_in_the_dmz_until_the_private_registry_has_it(tmp_path: Path) -> None:
    world = World(tmp_path, MIRROR.replace("ACROSS", "network"))
    for tag in ("3.11", "3.12", "2.7"):
        world.put("library/python", tag)
    world.bring("library/python", "3.11")
    why = "tag 3.12 is still to be brought on: mirror public to private"
    assert world.stays() == {"3.11": "", "3.12": why, "2.7": ""}


def test_what_crosses_by_bundle_stays_until_a_receipt_has_it(tmp_path: Path) -> None:
    world = World(tmp_path, MIRROR.replace("ACROSS", "bundle"))
    first, second = world.put("library/python", "3.11"), world.put("library/python", "3.12")
    assert all("mirror public" in why for why in world.stays().values())
    signer = load_signer(generate_key(tmp_path / "far.key").private)
    held = HeldRepository(tags={"3.11": str(first.digest)}, manifests=(str(first.digest),))
    receipt = BundleReceipt(
        mirror="public",
        far="f" * 32,
        sequence=1,
        made_at="2026-11-29T10:00:00Z",
        registry="far",
        repositories={"library/python": held},
    )
    near = near_state(Session(load(world.config), Silent()), "public")
    with near.held():
        near.keep_receipt(sign_receipt(receipt, signer))
    assert world.stays() == {"3.11": "", "3.12": "tag 3.12 is still to be brought on: mirror public to private"}
    assert second.digest != first.digest


def test_a_plan_does_not_delete_what_is_awaited_by_now(tmp_path: Path) -> None:
    world = World(tmp_path, "")
    world.put("team/app", "v1")
    plan = Chain(load(world.config)).plan_retention("dmz")
    assert len(list(plan.deletions)) == 1
    world.config.write_text(CONFIG.format(SYNC))
    done = Chain(load(world.config)).collect("dmz", plan)
    assert not done.changed and any("still to be brought on: sync all" in why for why in done.reasons)
    assert sorted(world.dmz.tags("team/app")) == ["v1"]


LOCK = """\
# registry-pipelines mirror lock 1: public
docker.io/library/python:3.12 {} - 100 library/python
"""


def test_what_the_lock_of_a_mirror_names_stays_on_both_sides(tmp_path: Path) -> None:
    locked = MIRROR.replace("across: ACROSS", "lock: public.lock").replace('tags: ["3.*"]', 'tags: ["*"]')
    world = World(tmp_path, locked)
    image = world.put("library/python", "3.12")
    world.put("library/python", "3.11")
    world.bring("library/python", "3.12")
    (tmp_path / "public.lock").write_text(LOCK.format(image.digest))
    why = "the lock of the mirror public names it (docker.io/library/python:3.12)"
    assert world.stays() == {"3.12": why, "3.11": ""}


def test_what_has_no_tag_stays_while_something_is_pushed_there(tmp_path: Path) -> None:
    world = World(tmp_path, "")
    world.put("team/app", "v1")
    session = Chain(load(world.config))._session
    assert live_digests(session, "dmz").busy == {}
    with EmbeddedServer(tmp_path / "dmz") as server:
        client = DistributionRegistry(server.address, plain_http=True)
        upload = client.begin_upload("team/app")
        client.append_upload(upload, memoryview(b"part of a layer"))
    assert "an upload is open there" in live_digests(session, "dmz").busy["team/app"]
    place = Place(session.places.registry("dmz"), "team/tool")
    with closing(Journal.at(session.config.state / "transfer")) as journal:
        descriptor = Descriptor(media_type="x/y", digest=Digest.of(b"layer"), size=5)
        journal.record(place, descriptor, UploadSession("team/tool", "http://127.0.0.1/upload"))
        assert "a copy to it is under way" in live_digests(session, "dmz").busy["team/tool"]


@pytest.mark.parametrize(("busy", "kept"), [({}, False), ({"app": "an upload is open there"}, True)])
def test_a_signature_of_nothing_stays_while_something_is_pushed(
    tmp_path: Path, busy: dict[str, str], kept: bool
) -> None:
    place = Place(LayoutRegistry(tmp_path), "app")
    image = put(place, "v1")
    signature = put(place, image.digest.fallback_tag + ".sig", config={"n": "signature"})
    place.registry.delete_manifest("app", image.digest)
    rules = [RetentionRule(registry="r", keep_newest=0, keep_days=0, orphans_days=0)]
    plan = plan_retention(place.registry, rules, now=datetime(2026, 11, 29, tzinfo=UTC), in_use=Live(busy=busy))
    [entry] = plan.repositories[0].entries
    assert entry.digest == signature.digest and bool(entry.reasons) is kept


def test_a_release_that_is_newer_than_the_first_channel_may_still_be_promoted(tmp_path: Path) -> None:
    world = World(tmp_path, "images: {app: {registry: dmz, repository: team/app, channels: [staging, prod]}}\n")
    place = Place(world.dmz, "team/app")
    made = {
        tag: put(place, tag, config={"created": f"2026-0{month}-01T00:00:00Z"})
        for month, tag in enumerate(("v1.0.0", "v1.1.0", "v1.2.0", "v1.3.0", "nightly"), start=1)
    }
    assert set(world.stays().values()) == {""}, "nothing was promoted yet: rules alone decide"
    for channel, tag in (("prod", "v1.0.0"), ("staging", "v1.2.0")):
        put_tag(place, made[tag], channel)
    stays = world.stays()
    assert {tag for tag, why in stays.items() if not why} == {"v1.1.0", "nightly"}
    assert stays["v1.3.0"] == "a release that is newer than what staging of app names: it may still be promoted"


def test_an_image_whose_id_runs_is_not_deleted_by_a_plan_of_before(tmp_path: Path) -> None:
    world = World(tmp_path, "")
    image = world.put("team/app", "v1")
    plan = Chain(load(world.config)).plan_retention("dmz")
    live = Live(contents={Digest.parse(json.loads(image.raw)["config"]["digest"]): "in use: nodes: host a"})
    done = apply_plan(world.dmz, plan, in_use=live)
    assert not done.deleted and "it is live now: in use: nodes: host a" in done.refused[0]
