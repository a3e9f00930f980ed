"""Recordings of nodes in Dagster: the sensor that has packs cut of them, and what is of no release deleted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from dagster_project.recordings import SWEEP_JOB
from registry_pipelines.config import load
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.hot.inbox import NodeNote, send, waiting
from tests.stream.hot.packing import MIB, recording
from tests.stream.lazy import starts

if TYPE_CHECKING:
    from conftest import World


def test_packs_are_cut_of_what_nodes_recorded_and_the_rest_is_deleted(world: World, settings: Path) -> None:
    raw = yaml.safe_load(settings.read_text())
    raw["policies"]["default"]["required"] = []
    raw["node"] = {"record": "source/inbox"}
    settings.write_text(yaml.safe_dump(raw, sort_keys=False))
    world.use(load(settings))
    inbox = Place(world.chain.registry("source"), "inbox")
    place = Place(world.chain.registry("source"), world.config.images["app"].repository)
    key = world.add("app", "v1", starts.image(place, tag="v1", more_mib=1).digest)
    digest = world.release(key).digest
    for of in (digest, Digest.of(os.urandom(9))):
        what = recording(of, {"etc/motd": 6, "data/0": MIB})
        send(inbox, what, NodeNote(image=of, recording=of, node="one"))
    first, strange = world.tick("recordings", None), world.tick("strange_recordings", None)
    assert not first.run_requests, "it has no verdict"
    assert not strange.run_requests, "what is of no release may just be coming"
    result = world.run(key)
    assert result.success, world.steps(result)
    [made] = result.asset_materializations_for_node("hot_pack")
    assert made.metadata["pages"].value == 257 and made.metadata["platforms_covered"].value == 1
    assert len(waiting(inbox).waiting) == 1
    late = recording(digest, {"bin/cat": (Path("/bin/cat").stat().st_size)})
    send(inbox, late, NodeNote(image=digest, recording=digest, node="two"))
    asked = world.tick("recordings", first.cursor)
    assert [each.partition_key for each in asked.run_requests or ()] == [key]
    assert not world.tick("recordings", asked.cursor).run_requests, "once"
    swept = world.tick("strange_recordings", strange.cursor)
    assert len(swept.run_requests or ()) == 1
    assert not world.tick("strange_recordings", swept.cursor).run_requests, "once"
    again = world.run(key, job="packs")
    [made] = again.asset_materializations_for_node("hot_pack")
    assert made.metadata["pages"].value == 257 + late.pages
    assert world.defs.resolve_job_def(SWEEP_JOB).execute_in_process(instance=world.instance).success
    assert waiting(inbox).waiting == ()
    del raw["node"]
    settings.write_text(yaml.safe_dump(raw, sort_keys=False))
    world.use(load(settings))
    assert "recordings" not in {each.name for each in world.defs.sensors or ()}
