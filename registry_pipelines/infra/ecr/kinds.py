"""The kinds of settings of AWS, in the order in which they are changed, and what must be there before what."""

from __future__ import annotations

KEY = "kms:key"
PROFILE = "signer:profile"
ACCOUNT = "ecr:account"
TEMPLATE = "ecr:template"
REPOSITORY = "ecr:repository"
LIFECYCLE = "ecr:lifecycle"
POLICY = "ecr:policy"
REGISTRY_POLICY = "ecr:registry-policy"
SCANNING = "ecr:scanning"
SIGNING = "ecr:signing"
PULL_THROUGH = "ecr:pull-through"
EXCLUSION = "ecr:pull-time-exclusion"
REPLICATION = "ecr:replication"
BACKFILL = "ecr:backfill"
ENDPOINT = "vpc:endpoint"
TOPIC = "sns:topic"
ALARM = "cloudwatch:alarm"

ORDER = (
    KEY,
    PROFILE,
    ACCOUNT,
    TEMPLATE,
    REPOSITORY,
    LIFECYCLE,
    POLICY,
    REGISTRY_POLICY,
    SCANNING,
    SIGNING,
    PULL_THROUGH,
    EXCLUSION,
    REPLICATION,
    BACKFILL,
    ENDPOINT,
    TOPIC,
    ALARM,
)
NEEDS = {LIFECYCLE: REPOSITORY, POLICY: REPOSITORY, BACKFILL: REPLICATION}

FIXED = {
    REPOSITORY: ("encryption", "kms_key"),
    PROFILE: ("platform", "validity"),
    KEY: ("enabled", "spec", "usage"),
    PULL_THROUGH: ("upstream", "upstream_prefix"),
    ENDPOINT: ("type",),
}
"""Fields that nothing here changes: AWS does not, or it is not ours to."""

ROOT = "ROOT"
"""What AWS writes for an empty prefix."""

ALL = "*"
"""Stands for every repository in the lists of a replication."""

BACKFILLED = "COMPLETE"
UNDER_WAY = ("PREPARING", "IN_PROGRESS")
ENDED = ("COMPLETE", "FAILED", "STOPPED")
"""Status of a backfill; source: botocore's model of ECR (ReplicationBackfillStatus)."""


def partition(region: str) -> str:
    """The partition of a region, as it stands in ARNs."""
    return "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"
