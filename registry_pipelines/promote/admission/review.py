"""AdmissionReview v1 (Kubernetes, ``admission.k8s.io/v1``): what an API server asks, and the answer it takes."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.oci.manifests import decode_sloppy

MAX_REVIEW_BYTES = 8 * 1024 * 1024
"""A review holds an object and the one before; an API server takes 3 MiB of one (its ``MaxRequestBodyBytes``)."""

API_VERSION = "admission.k8s.io/v1"
KIND = "AdmissionReview"

MAX_WARNING_CHARACTERS = 240
"""Of a warning; API servers cut at 256, and at 4,096 of all together."""
MAX_WARNINGS = 16


class ObjectKind(msgspec.Struct, frozen=True):
    """Which kind of object; the group is empty for the core's."""

    group: str = ""
    version: str = ""
    kind: str = ""


class Request(msgspec.Struct, frozen=True, rename="camel"):
    """What is to be done to an object of a cluster. Fields that decide nothing here are left out."""

    uid: str
    kind: ObjectKind
    operation: str
    name: str = ""
    namespace: str = ""
    object: dict[str, Any] | None = None
    """As it will be; None when it is deleted."""
    old_object: dict[str, Any] | None = None
    """As it is; None when it is created."""


class _Review(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str
    kind: str
    request: Request


class PatchStep(msgspec.Struct, frozen=True):
    """A step of a JSON patch (RFC 6902)."""

    path: str
    value: str
    op: Literal["replace"] = "replace"


def read_review(raw: bytes) -> Request:
    """What is asked. Raises ManifestInvalid: this is no AdmissionReview v1."""
    review = decode_sloppy(raw, _Review, what="AdmissionReview")
    if (review.api_version, review.kind) != (API_VERSION, KIND):
        raise ManifestInvalid(
            f"a review is {API_VERSION} {KIND}, this is {review.api_version[:80]} {review.kind[:80]}",
            do='Write admissionReviewVersions: ["v1"]',
        )
    if not review.request.uid:
        raise ManifestInvalid("the review has no `uid`")
    return review.request


def write_answer(
    uid: str,
    *,
    allowed: bool,
    message: str = "",
    warnings: Sequence[str] = (),
    audit: Mapping[str, str] | None = None,
    patch: Sequence[PatchStep] = (),
) -> bytes:
    """The answer to a review. message: why not. audit: for the cluster's audit log."""
    response: dict[str, Any] = {"uid": uid, "allowed": allowed}
    if not allowed:
        response["status"] = {"code": 403, "reason": "Forbidden", "message": message}
    if warnings:
        response["warnings"] = [_cut(each) for each in list(dict.fromkeys(warnings))[:MAX_WARNINGS]]
    if audit:
        response["auditAnnotations"] = dict(audit)
    if patch:
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(msgspec.json.encode(patch)).decode()
    return msgspec.json.encode({"apiVersion": API_VERSION, "kind": KIND, "response": response})


def _cut(text: str) -> str:
    return text if len(text) <= MAX_WARNING_CHARACTERS else f"{text[: MAX_WARNING_CHARACTERS - 3]}..."
