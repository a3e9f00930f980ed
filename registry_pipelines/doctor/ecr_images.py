"""What ECR's own API says of an image that pulls do not find: archived, being restored, or in another region.

Sources: ECR API model of botocore 1.44 (DescribeImages with ``filter.imageStatus``, DescribeRegistry).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from registry_pipelines.doctor.hosts import Host
from registry_pipelines.doctor.model import Answer
from registry_pipelines.doctor.unasked import unasked
from registry_pipelines.errors import NotFound, RegistryPipelinesError
from registry_pipelines.registry.ecr.calls import AwsCalls

MAX_REGIONS = 40
"""Asked, one request each."""


def describe_image(calls: AwsCalls, host: Host, repository: str, selector: str, *, region: str) -> Mapping[str, Any]:
    """ECR's details of an image of any status; empty where the region has none. Raises as ``AwsCalls.call``."""
    by = {"imageDigest": selector} if ":" in selector else {"imageTag": selector}
    try:
        answer = calls.call(
            "describe_images",
            where=f"{host.account} in {region}/{repository}",
            region=region,
            registryId=host.account,
            repositoryName=repository,
            imageIds=[by],
            filter={"imageStatus": "ANY"},
        )
    except NotFound:
        return {}
    found: Mapping[str, Any] = next(iter(answer.get("imageDetails") or ()), {})
    return found


def replica_regions(calls: AwsCalls, host: Host) -> list[str]:
    """Regions that the account's own replication rules lead to. Raises as ``AwsCalls.call``."""
    answer = calls.call("describe_registry", where=f"{host.account} in {host.region}", region=host.region)
    rules = (answer.get("replicationConfiguration") or {}).get("rules") or ()
    destinations = [each for rule in rules for each in rule.get("destinations") or ()]
    return [str(each["region"]) for each in destinations if each.get("registryId") == host.account]


def explain_missing(
    calls: AwsCalls, host: Host, repository: str, selector: str, *, regions: Iterable[str]
) -> list[Answer]:
    """Why pulls do not find an image of ECR. regions: others to look in; those of the account's replication are added.
    A question that could not be asked is a note among the answers, and stops no other."""
    notes = []
    try:
        if found := describe_image(calls, host, repository, selector, region=host.region):
            return _by_status(host, repository, selector, found)
    except RegistryPipelinesError as error:
        notes.append(unasked("whether it is archived", "ecr:DescribeImages", error))
    others = dict.fromkeys(regions)
    try:
        others.update(dict.fromkeys(replica_regions(calls, host)))
    except RegistryPipelinesError as error:
        notes.append(unasked("which regions the account replicates to", "ecr:DescribeRegistry", error))
    others.pop(host.region, None)
    answers = []
    for region in list(others)[:MAX_REGIONS]:
        try:
            if details := describe_image(calls, host, repository, selector, region=region):
                answers.append(_elsewhere(host, repository, selector, region, details))
        except RegistryPipelinesError as error:
            notes.append(unasked(f"whether {region} has it", f"ecr:DescribeImages in {region}", error))
    return [*answers, *notes]


def _by_status(host: Host, repository: str, selector: str, found: Mapping[str, Any]) -> list[Answer]:
    status, digest = str(found.get("imageStatus", "ACTIVE")), str(found.get("imageDigest", selector))
    if status not in ("ARCHIVED", "ACTIVATING"):
        return []
    when = found.get("lastArchivedAt")
    being = status == "ACTIVATING"
    return [
        Answer(
            cause="archived",
            what=f"{selector} of {repository} is {'being restored' if being else 'archived'}: ECR answers pulls of it "
            f"as if it "
            "were not there",
            evidence=(f"DescribeImages: {status}{f' since {when:%Y-%m-%d}' if when else ''}", digest),
            do="Wait: a restore takes up to 20 minutes, and the kubelet tries again"
            if being
            else "Restore it (up to 20 minutes, 0.03 USD a GB; then it counts as pushed anew), and find the lifecycle "
            "rule that "
            "archived it",
            command=""
            if being
            else f"aws ecr update-image-storage-class --registry-id {host.account} --repository-name {repository} "
            f"--image-id "
            f"imageDigest={digest} --target-storage-class STANDARD --region {host.region}",
        )
    ]


def _elsewhere(host: Host, repository: str, selector: str, region: str, found: Mapping[str, Any]) -> Answer:
    there = host.name.replace(f".{host.region}.", f".{region}.")
    return Answer(
        cause="other-region",
        what=f"{selector} of {repository} is not in {host.region} but in {region}",
        evidence=(
            f"DescribeImages in {region}: {found.get('imageDigest', '')}",
            f"DescribeImages in {host.region}: nothing",
        ),
        do=f"Pull from {there}, or replicate: native replication brings only what is pushed after it was set, older "
        f"images "
        "come by a backfill",
        command=f"registry-pipelines copy {there}/{repository}{'@' if ':' in selector else ':'}{selector} "
        f"{host.name}/{repository}",
    )
