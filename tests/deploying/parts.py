"""What tests of roll-outs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from registry_pipelines.deploying.kubernetes import Workload
from registry_pipelines.deploying.rollout import Limits, RolledOut, Wanted, roll_out
from registry_pipelines.registry.client.retries import Retries
from tests.doubles.certificates import Certificates
from tests.doubles.kube_workloads import WorkloadCluster

OLD, NEW, THIRD = (f"sha256:{letter * 64}" for letter in "abc")
APP = "reg.example/team/app"
TOKEN = "token-of-a-test"
WEB = ("deployments", "shop", "web")
Opener = Callable[..., Workload]
"""Opens a workload by its key (``WEB`` unless told); closed when the test ends."""
QUICK = Retries(attempts=3, first_wait_s=0.01)


def wanted(digest: str = NEW) -> Wanted:
    return Wanted(f"{APP}@{digest}", frozenset({digest}))


def limits(wait_s: float = 60.0, *, health_s: float = 0.0, rollback: bool = True) -> Limits:
    return Limits(wait_s, health_s, rollback, pause_s=0.005)


def kubeconfig(folder: Path, cluster: WorkloadCluster, certificates: Certificates) -> Path:
    """As ``kubectl config view --raw`` prints it."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "prod",
        "contexts": [{"name": "prod", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [
            {"name": "c", "cluster": {"server": cluster.address, "certificate-authority": str(certificates.ca)}}
        ],
        "users": [{"name": "u", "user": {"token": TOKEN}}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return path


def rolled(platform: Workload, **more: Any) -> RolledOut:
    """Roll NEW out, by what is there now."""
    return roll_out(platform, platform.look(), wanted(), more.pop("limits", limits(**more)))
