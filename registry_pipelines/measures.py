"""What is measured of registries: names, units and labels, the same for every program that is told and for alarms.

One table, from which each exporter, dashboard and alert rule makes its own spelling. Labels are names of the
configuration and of repositories: never digests, tags, people or anything secret, so that their number is bounded.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Unit = Literal["bytes", "count", "seconds"]

PREFIX = "registry_pipelines"
"""Begins the names in Prometheus, Cloud Monitoring and OpenTelemetry."""

NAMESPACE = "RegistryPipelines"
"""Of CloudWatch, unless the configuration says another."""

CUSTOM = f"custom.googleapis.com/{PREFIX}/"
"""Begins the types in Cloud Monitoring."""

OTHERS = "(others)"
"""The label of repositories that are told in one sum, because there are too many: no repository can have this name."""


class Measure(msgspec.Struct, frozen=True):
    """A number that is followed; all are gauges. told: one sentence, for help texts. labels: in their order."""

    unit: Unit
    told: str
    labels: tuple[str, ...] = ()


REGISTRY_BYTES = "registry_bytes"
REPOSITORY_BYTES = "repository_bytes"

MEASURES: dict[str, Measure] = {
    REGISTRY_BYTES: Measure("bytes", "Stored in a registry: the sum of its repositories.", ("registry",)),
    "registry_images": Measure("count", "Manifests that a registry holds.", ("registry",)),
    "registry_untagged_images": Measure("count", "Of them, those without a tag.", ("registry",)),
    "registry_repositories": Measure("count", "Repositories that hold anything.", ("registry",)),
    REPOSITORY_BYTES: Measure("bytes", "Stored in a repository, each blob counted once.", ("registry", "repository")),
    "repository_images": Measure("count", "Manifests that a repository holds.", ("registry", "repository")),
    "repository_untagged_images": Measure("count", "Of them, those without a tag.", ("registry", "repository")),
    "repository_pulled_images": Measure(
        "count", "Images of which the registry says that they were pulled within a day.", ("registry", "repository")
    ),
    "repository_pulls": Measure("count", "Pulls within a day, by the logs that are kept.", ("registry", "repository")),
    "egress_bytes": Measure("bytes", "Given out within a day, by logs that tell sizes.", ("registry",)),
    "inventory_age_seconds": Measure(
        "seconds", "Since a registry told what the numbers above are made from.", ("registry",)
    ),
    "replication_lag_seconds": Measure(
        "seconds", "Since the promotion of what a target lacks; 0 where it has it.", ("image", "channel", "target")
    ),
    "replication_arrival_seconds": Measure(
        "seconds", "Between push and arrival, where a cloud replicates by itself.", ("image", "channel", "target")
    ),
    "replicated_bytes": Measure(
        "bytes", "Of images that arrived at a registry within a day, shared layers in each.", ("source", "target")
    ),
    "mirror_age_seconds": Measure("seconds", "Since an upstream was last brought whole.", ("mirror", "upstream")),
    "advisories_age_seconds": Measure("seconds", "Since the newest advisory in use.", ()),
    "hot_pack_age_seconds": Measure(
        "seconds", "Since the hot pack of what a channel names was made.", ("image", "channel")
    ),
    "backup_age_seconds": Measure("seconds", "Since the newest whole moment of a backup.", ("backup",)),
    "drill_age_seconds": Measure("seconds", "Since the last restore drill of a backup.", ("backup",)),
    "drill_failed": Measure("count", "1 where the last drill of a backup failed, else 0.", ("backup",)),
    "drill_recovery_seconds": Measure("seconds", "Until all was back in the last drill of a backup.", ("backup",)),
    "verdicts": Measure("count", "Channels of an image by the verdict on what they name.", ("image", "outcome")),
    "waiting_releases": Measure("count", "Releases newer than what a channel names.", ("image", "channel")),
    "collected_timestamp_seconds": Measure("seconds", "When these numbers were collected, since 1970.", ()),
    "source_failed": Measure("count", "1 where a source could not be read whole, else 0.", ("source",)),
    "left_out_series": Measure("count", "Series that are not told, because there are too many.", ("measure",)),
}
"""By name. A name ends in its unit where that is not a count."""


def camel(name: str) -> str:
    """A name or label as AWS spells it: ``repository_bytes`` is ``RepositoryBytes``."""
    return "".join(part.title() for part in name.split("_"))


__all__ = [
    "CUSTOM",
    "MEASURES",
    "NAMESPACE",
    "OTHERS",
    "PREFIX",
    "REGISTRY_BYTES",
    "REPOSITORY_BYTES",
    "Measure",
    "camel",
]
