"""Collection under fire: people go on pushing, signing and moving tags while plans are made and applied, what was set
aside goes for good, and garbage is freed. Nothing live is lost, and what is old goes."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from registry_pipelines.collect.apply import apply_plan
from registry_pipelines.collect.heal import bring_needed
from registry_pipelines.collect.make import plan_retention
from registry_pipelines.collect.quarantine import Quarantine, Shelf
from registry_pipelines.collect.rules import RetentionRule
from registry_pipelines.evidence.keys import verifier_of
from registry_pipelines.evidence.model import Signer
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.set_aside import quarantine_of
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.threads import Pool
from tests.collect.fire import Old, Pusher, broken, fill, litter, registry_of
from tests.collect.test_quarantine import records
from tests.collect.test_quarantine import signer as signer

RULE = RetentionRule(registry="here", repositories=("team/*",), keep_newest=0, keep_days=1)
REPOSITORY = "team/app"
DAY_S = 86400.0


class Collector:
    """Plans, applies, deletes for good and frees, again and again."""

    def __init__(self, server: EmbeddedServer, signer: Signer) -> None:
        self._server, self._signer = server, signer
        self.place = Place(registry_of(server), REPOSITORY)
        self.turns = self.deleted = self.purged = self.freed = self.put_back = self.healed = 0

    def turn(self, old: Old) -> None:
        now = datetime.now(UTC)
        plan = plan_retention(self.place.registry, [RULE], now=now, in_use=())
        aside = Quarantine(plan.digest, 1, self._signer, verifier_of(self._signer), now)
        done = apply_plan(self.place.registry, plan, now=now, aside=aside)
        self.deleted += sum(not each.already for each in done.deleted)
        self.put_back += sum("it was put back" in each for each in done.refused)
        self._purge()
        self.turns += 1
        litter(self._server.root / REPOSITORY, old, self.turns)
        self.freed += self._server.collect_garbage(grace_s=DAY_S).blobs

    def _purge(self) -> None:
        aside, kept = quarantine_of(self.place), records(self.place, self._signer)
        with Pool(4, "heal") as pool:
            self.healed += len(bring_needed(self.place, aside, kept, pool))
        while len(kept) > 10:  # the last ones may be needed again
            Shelf(aside, kept).release(kept.pop(0))
            self.purged += 1


def under_fire(root: Path, signer: Signer, *, old_images: int, seconds: float) -> Collector:
    with EmbeddedServer(root, garbage_interval_s=None) as server:
        collector = Collector(server, signer)
        old = fill(collector.place, root, old_images)
        until = time.monotonic() + seconds
        pushers = [
            Pusher(Place(registry_of(server), REPOSITORY), old, number, lambda: time.monotonic() < until)
            for number in range(4)
        ]
        for pusher in pushers:
            pusher.start()
        while any(pusher.is_alive() for pusher in pushers):
            collector.turn(old)
        for pusher in pushers:
            pusher.join()
        collector.turn(old)
        lost = [each for pusher in pushers for each in broken(server, REPOSITORY, pusher.live, pusher.signed)]
        assert lost == [] and all(pusher.pushed and pusher.error is None for pusher in pushers)
        used = {digest for pusher in pushers for digest in pusher.platforms}
        left = {tag: digest_at(collector.place, tag) for tag in collector.place.registry.tags(REPOSITORY)}
        assert {digest for tag, digest in left.items() if tag.startswith("old-")} <= used
        assert collector.deleted and collector.freed
        return collector


def test_nothing_live_is_lost_under_fire(tmp_path: Path, signer: Signer) -> None:
    under_fire(tmp_path, signer, old_images=20, seconds=2)


@pytest.mark.long
def test_nothing_live_is_lost_under_fire_of_a_minute(tmp_path: Path, signer: Signer) -> None:
    assert under_fire(tmp_path, signer, old_images=400, seconds=60).purged
