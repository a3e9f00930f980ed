"""kubelet: when it clears images, how many it pulls at once, whose accounts it has.

Rules: Kubernetes' KubeletConfiguration (kubelet.config.k8s.io/v1beta1) and CredentialProviderConfig
(kubelet.config.k8s.io/v1); the folder of ``--config-dir`` (1.30 and newer). The providers are ecr-credential-provider
(cloud-provider-aws) and auth-provider-gcp (cloud-provider-gcp).
"""

from __future__ import annotations

from typing import Any

from registry_pipelines.node.setup.model import HEAD, Setup, Written
from registry_pipelines.node.sizing import NodeDisk
from registry_pipelines.yaml_text import to_yaml

PARALLEL_PULLS = 5
"""Pulls of different images; of those that are served lazily each moves some KiB."""
UNUSED_AGE = "336h"
"""Two weeks: a release that was rolled back is still there."""


def kubelet(setup: Setup) -> Written:
    """Two files: settings, and who is asked for accounts."""
    files = {
        "90-registry-pipelines.conf": to_yaml(
            {
                "apiVersion": "kubelet.config.k8s.io/v1beta1",
                "kind": "KubeletConfiguration",
                **image_settings(setup.disk),
            },
            comment=HEAD,
        ),
        "credential-provider.yaml": to_yaml(_providers(), comment=HEAD),
    }
    notes = [
        "90-registry-pipelines.conf into the folder of `kubelet --config-dir` (1.30 and newer; 1.28 and 1.29 take it "
        "with KUBELET_CONFIG_DROPIN_DIR_ALPHA set), or its fields into kubelet's file; restart kubelet",
        "credential-provider.yaml: `kubelet --image-credential-provider-config FILE "
        "--image-credential-provider-bin-dir DIR`; leave out the provider whose program is not in DIR, since kubelet "
        "does not start without it",
        "accounts that kubelet has reach containerd alone: the agent takes its own from Docker's file or the node's "
        "role",
        "a disk of its own for images: mount it below containerd's *and* the agent's folder. containerd tells "
        "kubelet of the folder of its default snapshotter alone, so an agent's disk beside it would never be cleared",
        sized(setup.disk),
    ]
    return Written(files, notes)


def image_settings(disk: NodeDisk | None) -> dict[str, Any]:
    """Fields of KubeletConfiguration about images; thresholds only where they were computed."""
    thresholds: dict[str, Any] = {}
    if disk is not None:
        thresholds = {
            "imageGCHighThresholdPercent": disk.gc_high_percent,
            "imageGCLowThresholdPercent": disk.gc_low_percent,
            # All of them: those that are not named have no limit any more.
            "evictionHard": {
                "memory.available": "100Mi",
                "nodefs.available": "10%",
                "nodefs.inodesFree": "5%",
                "imagefs.available": f"{disk.evicted_percent}%",
                "imagefs.inodesFree": "5%",
            },
        }
    return {
        **thresholds,
        "imageMinimumGCAge": "2m",
        "imageMaximumGCAge": UNUSED_AGE,
        "serializeImagePulls": False,
        "maxParallelImagePulls": PARALLEL_PULLS,
    }


def sized(disk: NodeDisk | None) -> str:
    """Where the numbers are from, or that there are none."""
    if disk is None:
        return "no room for images and no threshold is in it: `node size --json > FILE`, and --size FILE here"
    note = f"computed for {disk.volume_gib} GiB: images are cleared from {disk.gc_high_percent} % of it down to "
    note += f"{disk.gc_low_percent} %, which all images of the node fit in"
    return note if disk.fits else f"{note}; they do not fit: kubelet will clear images that the node needs"


def _providers() -> dict[str, Any]:
    ecr = {
        "name": "ecr-credential-provider",
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "defaultCacheDuration": "12h",
        "matchImages": [
            "*.dkr.ecr.*.amazonaws.com",
            "*.dkr.ecr.*.amazonaws.com.cn",
            "*.dkr.ecr-fips.*.amazonaws.com",
            "*.dkr-ecr.*.on.aws",
            "public.ecr.aws",
        ],
    }
    gar = {
        "name": "auth-provider-gcp",
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "defaultCacheDuration": "1m",
        "args": ["get-credentials", "--v=3"],
        "matchImages": ["gcr.io", "*.gcr.io", "*.pkg.dev"],
    }
    return {
        "apiVersion": "kubelet.config.k8s.io/v1",
        "kind": "CredentialProviderConfig",
        "providers": [ecr, gar],
    }
