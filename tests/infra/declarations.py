"""A declaration that has something of everything that ECR can be set to."""

from __future__ import annotations

from typing import Any

ROLE = "arn:aws:iam::123456789012:role/scanner"
SECRET = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:ecr-pullthroughcache/dh-AbCdEf"
PROFILE = "arn:aws:signer:eu-west-1:123456789012:/signing-profiles/release"

REPOSITORIES: list[dict[str, Any]] = [
    {
        "names": ["ml/a", "ml/b"],
        "immutable": True,
        "movable": ["latest", "prod*"],
        "scan_on_push": True,
        "labels": {"team": "ml"},
        "lifecycle": "lifecycle.json",
        "policy": "policy.json",
        "readers": ["222233334444", "o-a1b2c3d4e5"],
    },
    {"names": ["tools"], "immutable": False, "encryption": "AES256"},
]

EVERYTHING: dict[str, Any] = {
    "repositories": REPOSITORIES,
    "templates": [
        {"prefix": "ml", "applied_for": ["REPLICATION"], "immutable": True, "lifecycle": "lifecycle.json"},
        {"prefix": "", "applied_for": ["CREATE_ON_PUSH"], "labels": {"by": "push"}, "role": ROLE},
    ],
    "pull_through": [
        {"prefix": "quay", "upstream": "quay.io"},
        {"prefix": "dh", "upstream": "registry-1.docker.io", "secret": SECRET, "upstream_prefix": "library"},
    ],
    "replication": [
        {"to": ["us-east-1"], "prefixes": ["ml/"], "deletes": True},
        {"to": ["us-east-1", "444455556666/eu-west-1"], "prefixes": ["tools"]},
    ],
    "replicated_from": ["999988887777"],
    "scanning": {"type": "ENHANCED", "on_push": ["*"], "continuous": ["ml/*"]},
    "signing": [{"profile": "release", "repositories": ["ml/*"]}],
    "signer_profiles": {"release": {"validity": "12 months"}},
    "account": {"blob_mounting": True, "basic_scan": "AWS_NATIVE", "registry_policy": "V2"},
    "pull_time_exclusions": [ROLE],
}

ENDPOINTS: dict[str, Any] = {
    "vpc_endpoints": [
        {
            "vpc": "vpc-12345678",
            "subnets": ["subnet-12345678"],
            "security_groups": ["sg-12345678"],
            "route_tables": ["rtb-12345678"],
        }
    ],
}
"""Apart from the others: EC2's model alone takes botocore most of a second to read."""
