"""Replication: images are really copied to registries of other regions and accounts, existing ones by backfills.

Source: the ECR user guide ("Private image replication") and botocore's model: content that is pushed after the rule is
there, one hop, under the same name; the destination's registry policy decides for other accounts; an immutable tag that
is taken stays, and the image arrives without it; deletions go along where the rule says so.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from tests.doubles.aws.ecr_caches import EcrCaches
from tests.doubles.aws.ecr_places import Content, Memory, Place, Repository, Upstream
from tests.doubles.aws.ecr_policies import EcrPolicies, allows
from tests.doubles.aws.ecr_registry import EcrRegistries, moment
from tests.doubles.aws.front import Area, AwsDouble, Call, pages
from tests.doubles.aws.model import ApiError, Values

MAX_BACKFILLS, JUDGED_AFTER, GIVEN_UP_AT = 10, 100, 0.5
RUNNING = ("PREPARING", "IN_PROGRESS")
Unit = tuple[str, str, str]
"""Repository, digest, tag (empty for an untagged image): what a backfill counts."""


@dataclass
class Backfill:
    source: Place
    destination: Values
    started_at: float
    units: list[Unit]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: str = "PREPARING"
    ended_at: float = 0.0
    results: list[Values] = field(default_factory=list)


class EcrReplication(Area):
    """delay_s: until what was pushed arrives. backfill_s: half of it a backfill prepares, half it copies. broken:
    repositories that never arrive. hold: nothing arrives until ``release``."""

    service = "ecr"

    def __init__(self, world: AwsDouble) -> None:
        super().__init__(world)
        self.rules: dict[tuple[str, str], list[Values]] = {}
        self.statuses: dict[tuple[str, str, str, str], dict[str, Values]] = {}
        self.backfills: list[Backfill] = []
        self.delay_s = self.backfill_s = 0.0
        self.hold = False
        self.broken: set[str] = set()
        self._held: list[dict[str, Any]] = []
        self._pages: dict[str, tuple[str, list[Values]]] = {}
        world.listeners.append(self._told)

    # What is pushed and deleted

    def _told(self, event: dict[str, Any]) -> None:
        if event["detail-type"] != "ECR Image Action" or (event["account"], event["region"]) not in self.rules:
            return
        if self.hold:
            self._held.append(event)
        elif self.delay_s:
            threading.Timer(self.delay_s, self._later, [event]).start()
        else:
            self._follow(event)

    def release(self) -> None:
        """What was held arrives now."""
        held, self._held = self._held, []
        for event in held:
            self._later(event)

    def _later(self, event: dict[str, Any]) -> None:
        with self.world._lock:
            self._follow(event)

    def _follow(self, event: dict[str, Any]) -> None:
        source = self.world.area(EcrRegistries).at(event["account"], event["region"])
        detail = event["detail"]
        name, digest, tag = detail["repository-name"], detail["image-digest"], detail.get("image-tag", "")
        for rule in self._rules_for(source, name):
            for destination in rule["destinations"]:
                if detail["action-type"] == "PUSH":
                    self._copy(source, destination, (name, digest, tag))
                elif rule.get("deleteReplication", {}).get("enabled"):
                    self._delete(destination, name, digest, tag)

    def _rules_for(self, source: Place, name: str) -> Iterator[Values]:
        for rule in self.rules.get((source.account, source.region), []):
            filters = rule.get("repositoryFilters")
            if not filters or any(name.startswith(each["filter"]) for each in filters):
                yield rule

    def _copy(self, source: Place, destination: Values, unit: Unit) -> str:
        """The failure's code; empty when it arrived."""
        name, digest, _ = unit
        code = self._failure(source, destination, name)
        there = self.world.area(EcrRegistries).at(destination["registryId"], destination["region"])
        if not code:
            self._arrive(source, there, unit)
        status = {**destination, "status": "FAILED" if code else "COMPLETE", **({"failureCode": code} if code else {})}
        place = f"{destination['registryId']}/{destination['region']}"
        self.statuses.setdefault((source.account, source.region, name, digest), {})[place] = status
        detail = {
            "result": "FAILED" if code else "SUCCESS", "repository-name": name, "image-digest": digest,
            "source-account": source.account, "action-type": "REPLICATE", "source-region": source.region,
            **({"image-tag": unit[2]} if unit[2] else {}),
        }  # fmt: skip
        about = {"account": there.account, "region": there.region, "resources": [there.arn(name)]}
        self.world.tell("aws.ecr", "ECR Replication Action", detail, **about)
        return code

    def _failure(self, source: Place, destination: Values, name: str) -> str:
        if name in self.broken:
            return "KmsAccessDenied"
        if destination["registryId"] == source.account:
            return ""
        key = (destination["registryId"], destination["region"])
        text = self.world.area(EcrPolicies).registry_policies.get(key)
        there = self.world.area(EcrRegistries).at(*key).repositories
        needed = ["ecr:ReplicateImage", *([] if name in there else ["ecr:CreateRepository"])]
        return "" if all(allows(text, source.account, action) for action in needed) else "DestinationAccessDenied"

    def _arrive(self, source: Place, there: Place, unit: Unit) -> None:
        name, digest, tag = unit
        image = source.repositories[name].images.get(digest)
        if image is None:
            return  # deleted before it could go
        if name not in there.repositories:
            made = self.world.area(EcrCaches).made(there.account, there.region, name, "REPLICATION")
            there.repositories[name] = made or Repository(name, self.world.clock())
        for child in image.children:
            self._arrive(source, there, (name, child, ""))
        for blob in image.blobs:
            copy_blob(source.content, there.content, name, blob)
        arrived = replace(image, pushed_at=0.0, pulled_at=0.0)
        known = there.repositories[name]
        taken = tag and known.is_fixed(tag) and known.tags.get(tag, digest) != digest
        reference = tag if tag and not taken else digest
        put = there.content.put(name, reference, arrived)
        assert put, f"{name}@{digest} cannot be stored at {there.host}"
        there.note(name, reference, arrived, self.world.clock())

    def _delete(self, destination: Values, name: str, digest: str, tag: str) -> None:
        there = self.world.area(EcrRegistries).at(destination["registryId"], destination["region"])
        known = there.repositories.get(name)
        if known is None or digest not in known.images or known.needed(digest):
            return
        if tag:
            there.content.delete(name, tag)
            there.note_deleted(name, tag)
        if not tag or not known.tags_of(digest):
            there.content.delete(name, digest)
            there.note_deleted(name, digest)

    # Rules

    def do_PutReplicationConfiguration(self, call: Call) -> Values:
        known = call.values["replicationConfiguration"]
        destinations = {
            (each["registryId"], each["region"]) for rule in known["rules"] for each in rule["destinations"]
        }
        if len(destinations) > 25:
            raise ApiError("ValidationException", "25 destinations at most")
        if (call.account, call.region) in destinations:
            raise ApiError("InvalidParameterException", "a registry does not replicate to itself")
        partitions = {region.split("-")[0] in ("cn",) for _, region in destinations} | {call.region.startswith("cn-")}
        if len(partitions) > 1:
            raise ApiError("ValidationException", "the region is in another partition")
        self.rules[call.account, call.region] = known["rules"]
        return {"replicationConfiguration": known}

    def do_DescribeRegistry(self, call: Call) -> Values:
        rules = self.rules.get((call.account, call.region), [])
        return {"registryId": call.account, "replicationConfiguration": {"rules": rules}}

    def do_DescribeImageReplicationStatus(self, call: Call) -> Values:
        registries = self.world.area(EcrRegistries)
        place, there = registries.place(call), registries.repository(call)
        asked = call.values["imageId"]
        digest = asked.get("imageDigest") or there.tags.get(asked.get("imageTag", ""), "")
        if digest not in there.images:
            raise ApiError("ImageNotFoundException", f"there is no {asked}")
        found = dict(self.statuses.get((place.account, place.region, there.name, digest), {}))
        for event in self._held:
            detail = event["detail"]
            if (detail["repository-name"], detail["image-digest"]) == (there.name, digest):
                for rule in self._rules_for(place, there.name):
                    for each in rule["destinations"]:
                        found.setdefault(f"{each['registryId']}/{each['region']}", {**each, "status": "IN_PROGRESS"})
        return {
            "repositoryName": there.name,
            "imageId": {"imageDigest": digest},
            "replicationStatuses": list(found.values()),
        }

    # Backfills

    def do_StartReplicationBackfill(self, call: Call) -> Values:
        source, destination = self.world.area(EcrRegistries).place(call), call.values["destination"]
        rules = [
            rule for rule in self.rules.get((source.account, source.region), []) if destination in rule["destinations"]
        ]
        if not rules:
            raise ApiError("ValidationException", "the destination is in no replication rule")
        running = [each for each in self._own(source) if each.status in (*RUNNING, "STOPPING")]
        if any(each.destination == destination for each in running):
            raise ApiError("ReplicationBackfillInProgressException", "one is running for this destination")
        if len(running) >= MAX_BACKFILLS:
            raise ApiError("LimitExceededException", f"{MAX_BACKFILLS} at most")
        units = [
            (name, digest, tag)
            for name, there in sorted(source.repositories.items())
            if any(destination in rule["destinations"] for rule in self._rules_for(source, name))
            for digest in sorted(there.images)
            for tag in there.tags_of(digest) or [""]
        ]
        made = Backfill(source, destination, self.world.clock(), units)
        self.backfills.append(made)
        return {
            "replicationBackfillId": made.id,
            "registryId": source.account,
            "destination": destination,
            "status": made.status,
            "startedAt": moment(made.started_at),
        }

    def _own(self, source: Place) -> list[Backfill]:
        """As they are now."""
        found = [each for each in self.backfills if each.source is source]
        for each in found:
            spent = self.world.clock() - each.started_at
            if each.status in RUNNING:
                each.status = "PREPARING" if spent < self.backfill_s / 2 else "IN_PROGRESS"
                if spent >= self.backfill_s:
                    self._run(each)
        return found

    def _run(self, backfill: Backfill) -> None:
        failed = 0
        backfill.status = "COMPLETE"
        for position, unit in enumerate(backfill.units):
            code = self._copy(backfill.source, backfill.destination, unit)
            failed += bool(code)
            image = {"imageDigest": unit[1], **({"imageTag": unit[2]} if unit[2] else {})}
            said = {"repositoryName": unit[0], "imageId": image, "status": "FAILED" if code else "COMPLETE"}
            backfill.results.append(said | ({"failureCode": code} if code else {}))
            if position + 1 >= JUDGED_AFTER and failed / (position + 1) >= GIVEN_UP_AT:
                backfill.status = "FAILED"
                break
        backfill.ended_at = self.world.clock()

    def do_StopReplicationBackfill(self, call: Call) -> Values:
        found = self._backfill(call)
        if found.status not in RUNNING:
            raise ApiError("ReplicationBackfillInvalidStatusException", f"it is {found.status}")
        found.status, found.ended_at = "STOPPED", self.world.clock()
        return {
            "replicationBackfillId": found.id,
            "registryId": found.source.account,
            "destination": found.destination,
            "status": found.status,
            "startedAt": moment(found.started_at),
        }

    def _backfill(self, call: Call) -> Backfill:
        own = self._own(self.world.area(EcrRegistries).place(call))
        found = next((each for each in own if each.id == call.values["replicationBackfillId"]), None)
        if found is None:
            raise ApiError("ReplicationBackfillNotFoundException", "there is no such backfill")
        return found

    def do_ListReplicationBackfills(self, call: Call) -> Values:
        source = self.world.area(EcrRegistries).place(call)
        found = [
            {
                "replicationBackfillId": each.id,
                "destination": each.destination,
                "status": each.status,
                "startedAt": moment(each.started_at),
                "progress": _progress(each),
                **({"endedAt": moment(each.ended_at)} if each.ended_at else {}),
                **({"failureCode": "FailureThresholdExceeded"} if each.status == "FAILED" else {}),
            }
            for each in sorted(self._own(source), key=lambda one: -one.started_at)
        ]
        page = pages(self._pages, "ListReplicationBackfills", "backfills", found, call.values, size=50)
        return {"registryId": source.account, **page}

    def do_DescribeReplicationBackfillResults(self, call: Call) -> Values:
        found, wanted = self._backfill(call), call.values.get("resultStatusFilter")
        results = [each for each in found.results if wanted in (None, each["status"])]
        page = pages(self._pages, "DescribeReplicationBackfillResults", "results", results, call.values)
        return {
            "registryId": found.source.account,
            "replicationBackfillId": found.id,
            "destination": found.destination,
            "status": found.status,
            "progress": _progress(found),
            "startedAt": moment(found.started_at),
            **page,
        }


def _progress(each: Backfill) -> Values:
    failed = [one for one in each.results if one["status"] == "FAILED"]
    return {
        "totalReplicationCount": len(each.units),
        "completedReplicationCount": len(each.results) - len(failed),
        "failedReplicationCount": len(failed),
        "failureCodes": sorted({one["failureCode"] for one in failed}),
    }


def copy_blob(source: Content, there: Content, repository: str, digest: str) -> None:
    """From one registry behind to another."""
    if there.size(repository, digest) is not None:
        return
    if isinstance(source, Upstream):
        there.store(repository, source.read(repository, digest), digest)
    else:
        assert isinstance(source, Memory) and isinstance(there, Memory)
        there.blobs[repository, digest] = source.blobs[repository, digest]


__all__ = ["Backfill", "EcrReplication"]
