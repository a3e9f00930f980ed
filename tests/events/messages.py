"""Messages as the clouds' guides print them, for tests."""

from __future__ import annotations

import json
from typing import Any

ACCOUNT, REGION = "111122223333", "eu-west-1"
HOST = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
DIGEST = f"sha256:{'d' * 64}"


def bridge(kind: str, detail: dict[str, Any], *, source: str = "aws.ecr", **more: Any) -> bytes:
    """One event of EventBridge."""
    event = {
        "version": "0",
        "id": "5d1c6f0e-0000-4000-8000-000000000001",
        "detail-type": kind,
        "source": source,
        "account": ACCOUNT,
        "time": "2026-01-02T03:04:05Z",
        "region": REGION,
        "resources": [],
        "detail": detail,
    }
    return json.dumps({**event, **more}).encode()


def image_action(
    action: str = "PUSH", *, repository: str = "team/app", digest: str = DIGEST, tag: str = "v1", **more: Any
) -> bytes:
    detail = {"result": "SUCCESS", "repository-name": repository, "image-digest": digest, "action-type": action, **more}
    return bridge("ECR Image Action", {**detail, **({"image-tag": tag} if tag else {})})


def replication(
    result: str = "SUCCESS",
    *,
    repository: str = "app",
    digest: str = DIGEST,
    at: str = "2026-01-02T03:04:05Z",
    **more: Any,
) -> bytes:
    detail = {
        "result": result,
        "repository-name": repository,
        "image-digest": digest,
        "source-account": ACCOUNT,
        "action-type": "REPLICATE",
        "source-region": "us-west-2",
        "image-tag": "v1",
    }
    return bridge("ECR Replication Action", {**detail, **more}, time=at)


def scan(
    status: str = "COMPLETE",
    *,
    repository: str = "app",
    digest: str = DIGEST,
    at: str = "2026-01-02T03:04:05Z",
    **counts: int,
) -> bytes:
    detail = {
        "scan-status": status,
        "repository-name": repository,
        "finding-severity-counts": counts or {"HIGH": 2},
        "image-digest": digest,
        "image-tags": ["v1"],
    }
    return bridge("ECR Image Scan", detail, time=at)


INSPECTOR = bridge(
    "Inspector2 Scan",
    {
        "scan-status": "INITIAL_SCAN_COMPLETE",
        "repository-name": f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/team/app",
        "finding-severity-counts": {"CRITICAL": 7, "HIGH": 61, "TOTAL": 68},
        "image-digest": DIGEST,
        "image-tags": ["latest"],
    },
    source="aws.inspector2",
)
REFERRER = bridge(
    "ECR Referrer Action",
    {
        "action-type": "UPDATE_STORAGE_CLASS",
        "target-storage-class": "STANDARD",
        "image-digest": DIGEST,
        "repository-name": "app",
        "result": "SUCCESS",
        "manifest-media-type": "application/vnd.oci.image.manifest.v1+json",
        "artifact-media-type": "text/spdx+json",
        "last-activated-at": "2026-01-02T03:04:05.67Z",
    },
)
CACHED = {
    "rule-version": "1",
    "sync-status": "SUCCESS",
    "ecr-repository-prefix": "dh",
    "repository-name": "dh/alpine",
    "upstream-registry-url": "registry-1.docker.io",
    "image-tag": "3",
    "image-digest": DIGEST,
}
SETTINGS = bridge(
    "ECR Scan Resource Change",
    {
        "action-type": "SCAN_FREQUENCY_CHANGE",
        "repositories": [
            {
                "repository-name": "app",
                "repository-arn": f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/app",
                "scan-frequency": "CONTINUOUS_SCAN",
                "previous-scan-frequency": "MANUAL",
            }
        ],
        "resource-type": "REPOSITORY",
        "scan-type": "ENHANCED",
    },
)


def gcr(
    action: str = "INSERT",
    *,
    image: str = "ml-prod/images/app",
    digest: str = DIGEST,
    tag: str = "",
    host: str = "europe-west1-docker.pkg.dev",
) -> bytes:
    """One message of the topic ``gcr``."""
    message = {"action": action, **({"digest": f"{host}/{image}@{digest}"} if digest else {})}
    return json.dumps({**message, **({"tag": f"{host}/{image}:{tag}"} if tag else {})}).encode()
