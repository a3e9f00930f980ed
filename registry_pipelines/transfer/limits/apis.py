"""The budgets of clouds' own APIs: calls pass the same windows as requests of the distribution protocol.

ECR counts an image that is put through either door against the same quota, so both share a window: a fleet of copies
and an inventory of the same registry stay within it together, in all processes with the same state folder.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from registry_pipelines.registry.protocol import Pace
from registry_pipelines.transfer.limits.machine import MachineLimits
from registry_pipelines.transfer.limits.rules import Action

_ACTIONS: dict[str, Action] = {
    "put_image": "write-manifest",
    "batch_delete_image": "write-manifest",
    "initiate_layer_upload": "begin",
    "complete_layer_upload": "begin",
    "upload_layer_part": "append",
    "get_download_url_for_layer": "read-blob",
    "batch_get_image": "read-manifest",
    "batch_check_layer_availability": "read-manifest",
    "describe_images": "read-manifest",
    "list_images": "read-manifest",
    "list_image_referrers": "read-manifest",
}
"""ECR's operations on images, by boto3's method name; quotas: ECR user guide, "Amazon ECR service quotas"."""


def pace_of(limits: MachineLimits, registry: str) -> Pace:
    """The pace of one registry's calls. registry: its host; other operations and services have a window each that
    adapts to throttling, for nothing is published of their rates. Artifact Registry counts all of its API with what
    goes to the host (cloud.google.com/artifact-registry/quotas: requests, writes and deletes a minute)."""

    def pace(service: str, operation: str) -> AbstractContextManager[object]:
        action = _ACTIONS.get(operation) if service == "ecr" else None
        if service == "artifactregistry":
            action = "read-manifest" if operation.startswith(("get_", "list_")) else "write-manifest"
        if action is None:
            return limits.window(registry if service == "ecr" else f"{registry}.{service}", "settings").request()
        return limits.window(registry, action).request()

    return pace


__all__ = ["pace_of"]
