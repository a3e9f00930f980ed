"""Kubernetes' own models, made from its OpenAPI: documents are read by them, and written again."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from kubernetes.client import ApiClient


def read_object(document: dict[str, Any], kind: str) -> Any:
    """A model of a document. kind: as ``V1Deployment``. Raises ValueError where something that must be there is not."""
    return ApiClient().deserialize(SimpleNamespace(data=json.dumps(document)), kind)


def written_again(document: dict[str, Any], kind: str) -> dict[str, Any]:
    """The document as the model has it: fields that it does not know are gone."""
    return dict(ApiClient().sanitize_for_serialization(read_object(document, kind)))
