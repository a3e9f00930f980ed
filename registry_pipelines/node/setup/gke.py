"""Google Kubernetes Engine: image streaming and secondary boot disks, which Google does itself.

Rules: GKE's "Use Image streaming to pull container images", "Use secondary boot disks to preload data or container
images", "Customizing node system configuration" and the API's NodePool (container v1); the Google provider of Terraform
(``google_container_node_pool``). The event's text is as clusters print it, which no page promises.
"""

from __future__ import annotations

import json
from typing import Any

from registry_pipelines.node.setup.kubelet import PARALLEL_PULLS, sized
from registry_pipelines.node.setup.model import HEAD, NAME, Setup, Written
from registry_pipelines.node.sizing import NodeDisk
from registry_pipelines.yaml_text import to_yaml

BOOT_GIB = 30
"""For what is no image on a boot disk of Container-Optimized OS."""
_CREATE = """\
#!/bin/sh
# {head}
set -eu
: "${{CLUSTER:?}}" "${{LOCATION:?}}" "${{MACHINE_TYPE:?}}"
gcloud services enable containerfilesystem.googleapis.com
# DISK_IMAGE: of the project's images, with container images on it (Google's gke-disk-image-builder makes it); empty
# for none.
gcloud container node-pools create {name} --cluster "$CLUSTER" --location "$LOCATION" --machine-type "$MACHINE_TYPE" \\
  --image-type cos_containerd --enable-image-streaming{size} \\
  --system-config-from-file node-system-config.yaml \\
  ${{DISK_IMAGE:+--secondary-boot-disk="disk-image=$DISK_IMAGE,mode=CONTAINER_IMAGE_CACHE"}}
"""
_STREAMED = """\
#!/bin/sh
# {head}
# Which images were streamed, and which of the running ones have no such event: those were fetched whole, or the event
# is older than the cluster keeps events (one hour).
set -eu
streamed=$(kubectl get events --all-namespaces --field-selector reason=ImageStreaming \\
  -o jsonpath='{{range .items[*]}}{{.message}}{{"\\n"}}{{end}}' |
  sed -n 's/^Image \\(.*\\) is backed by image streaming\\.*$/\\1/p' | tr -d '`' | sort -u)
kubectl get pods --all-namespaces \\
  -o jsonpath='{{range .items[*].spec.containers[*]}}{{.image}}{{"\\n"}}{{end}}' | sort -u |
  while read -r image; do
    if printf '%s\\n' "$streamed" | grep -qxF "$image"; then echo "streamed  $image"; else echo "whole?    $image"; fi
  done
"""


def gke(setup: Setup) -> Written:
    """Commands and the same for Terraform, thresholds, and how one sees that streaming fell back."""
    size = f" \\\n  --disk-type pd-balanced --disk-size {_boot_gib(setup.disk)}" if setup.disk else ""
    files = {
        "create-node-pool.sh": _CREATE.format(head=HEAD, name=NAME, size=size).encode(),
        "node-system-config.yaml": to_yaml({"kubeletConfig": _kubelet(setup.disk)}, comment=HEAD),
        "node-pool.tf.json": json.dumps(_terraform(setup.disk), indent=2).encode() + b"\n",
        "was-it-streamed.sh": _STREAMED.format(head=HEAD).encode(),
    }
    notes = [
        "create-node-pool.sh beside node-system-config.yaml, or node-pool.tf.json: Standard clusters; Autopilot "
        "streams by itself",
        "an image is streamed from Artifact Registry in the nodes' region or its multi-region (or a public one of "
        "Docker Hub); a node's own service account needs roles/serviceusage.serviceUsageConsumer",
        "one layer twice in an image, or an empty one, switches it off without an error: `stream check` says which; "
        "the first pull of an image may show no gain",
        "was-it-streamed.sh lists running images with and without the event; a node has the label "
        "cloud.google.com/gke-image-streaming=true where it is on at all",
        "a secondary boot disk is read-only and needs streaming on; its images are found by their digest's layers, "
        "others are pulled as ever. Make a new one with each release, or the pool starts from an old one",
        "GKE's nodes take no snapshotter of ours: containerd's settings are Google's there",
        sized(setup.disk),
    ]
    return Written(files, notes)


def _boot_gib(disk: NodeDisk) -> int:
    return BOOT_GIB + disk.volume_gib


def _kubelet(disk: NodeDisk | None) -> dict[str, Any]:
    thresholds: dict[str, Any] = {}
    if disk is not None:
        thresholds = {
            "imageGcHighThresholdPercent": disk.gc_high_percent,
            "imageGcLowThresholdPercent": disk.gc_low_percent,
        }
    return {**thresholds, "maxParallelImagePulls": PARALLEL_PULLS}


def _terraform(disk: NodeDisk | None) -> dict[str, Any]:
    thresholds: dict[str, Any] = {}
    if disk is not None:
        thresholds = {
            "image_gc_high_threshold_percent": disk.gc_high_percent,
            "image_gc_low_threshold_percent": disk.gc_low_percent,
        }
    secondary = {
        "for_each": '${var.disk_image == "" ? [] : [var.disk_image]}',
        "content": {"disk_image": "${secondary_boot_disks.value}", "mode": "CONTAINER_IMAGE_CACHE"},
    }
    node = {
        "machine_type": "${var.machine_type}",
        "image_type": "COS_CONTAINERD",
        **({"disk_type": "pd-balanced", "disk_size_gb": _boot_gib(disk)} if disk else {}),
        "gcfs_config": {"enabled": True},
        "kubelet_config": {**thresholds, "max_parallel_image_pulls": PARALLEL_PULLS},
        "dynamic": {"secondary_boot_disks": secondary},
    }
    pool = {
        "name": NAME,
        "cluster": "${var.cluster}",
        "location": "${var.location}",
        "node_count": "${var.node_count}",
        "node_config": node,
    }
    text = {"type": "string"}
    return {
        "//": HEAD,
        "variable": {
            "cluster": text,
            "location": text,
            "machine_type": text,
            "node_count": {"type": "number", "default": 1},
            "disk_image": {"type": "string", "default": ""},
        },
        "resource": {
            "google_project_service": {"streaming": {"service": "containerfilesystem.googleapis.com"}},
            "google_container_node_pool": {NAME: pool},
        },
    }
