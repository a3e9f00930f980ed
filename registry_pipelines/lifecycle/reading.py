"""A policy of either cloud, told apart by its form."""

from __future__ import annotations

from typing import Any

from registry_pipelines.errors import LifecycleInvalid
from registry_pipelines.lifecycle.document import read_json
from registry_pipelines.lifecycle.ecr_policy import EcrPolicy, read_ecr_policy
from registry_pipelines.lifecycle.gar_policy import GarPolicies, read_gar_policies

ECR, GAR = "ecr", "gar"


def read_policy(text: str, *, where: str = "", kind: str = "") -> EcrPolicy | GarPolicies:
    """Read a policy. kind: ``ecr`` or ``gar``; unless told, an object with ``rules`` is ECR's. What Terraform and
    the API wrap ECR's text in (``policy``, ``lifecyclePolicyText``) are taken off. Raises LifecycleInvalid."""
    document = read_json(text, where=where)
    wrapped = _wrapped(document)
    if wrapped is not None:
        return read_policy(wrapped, where=where, kind=kind)
    if not kind:
        kind = _kind(document, where)
    return read_ecr_policy(text, where=where) if kind == ECR else read_gar_policies(text, where=where)


def kind_of(policy: EcrPolicy | GarPolicies) -> str:
    """``ecr`` or ``gar``."""
    return ECR if isinstance(policy, EcrPolicy) else GAR


def _wrapped(document: Any) -> str | None:
    """The policy's text inside an answer of `aws ecr get-lifecycle-policy` or an attribute of Terraform."""
    if isinstance(document, dict) and "rules" not in document:
        for name in ("lifecyclePolicyText", "policy"):
            if isinstance(document.get(name), str):
                return str(document[name])
    return None


def _kind(document: Any, where: str) -> str:
    if isinstance(document, dict) and "rules" in document:
        return ECR
    if isinstance(document, list) or (isinstance(document, dict) and document):
        return GAR
    problem = "neither ECR's lifecycle policy (an object with `rules`) nor Artifact Registry's list of cleanup policies"
    raise LifecycleInvalid([problem], where=where)
