"""The objects by which an API server asks the webhook (``admissionregistration.k8s.io/v1``)."""

from __future__ import annotations

import base64
from typing import Any

from registry_pipelines.errors import InputError
from registry_pipelines.promote.admission.model import MUTATE, VALIDATE, Admission

NAME = "registry-pipelines-admission"
WEBHOOK_NAME = "images.registry-pipelines.dev"
"""An API server wants three parts at least."""

PODS = ("pods", "pods/ephemeralcontainers")
CORE = (*PODS, "podtemplates", "replicationcontrollers")
APPS = ("daemonsets", "deployments", "replicasets", "statefulsets")
BATCH = ("cronjobs", "jobs")

_GROUP = "admissionregistration.k8s.io/v1"
_OPERATIONS = ["CREATE", "UPDATE"]


def webhook_objects(settings: Admission) -> list[dict[str, Any]]:
    """The configurations to apply to a cluster: one that judges every workload, and one that changes pods, where the
    settings say so. Only pods are changed: what keeps deployments as a repository has them would change them back.

    Namespaces are exempt by the label with their name, which an API server sets itself and nobody else can.
    Raises InputError: without the certificates that API servers are to trust.
    """
    if settings.ca_file is None:
        raise InputError(
            "API servers trust the webhook by certificates, and none are named",
            where="admission",
            do="Name a PEM file in admission.ca_file",
        )
    rules = [_rule("", CORE), _rule("apps", APPS), _rule("batch", BATCH)]
    judging = _object("ValidatingWebhookConfiguration", settings, VALIDATE, rules)
    if not settings.mutate:
        return [judging]
    changing = _object("MutatingWebhookConfiguration", settings, MUTATE, [_rule("", PODS)])
    # Another webhook may put a container beside: it is asked about as well.
    changing["webhooks"][0]["reinvocationPolicy"] = "IfNeeded"
    return [changing, judging]


def exempt_namespaces(settings: Admission) -> list[str]:
    """Namespaces about which nobody is asked: those told, and the webhook's own, where it could not start otherwise."""
    own = [] if settings.url else [settings.service.partition("/")[0]]
    return sorted({*settings.exempt_namespaces, *own})


def _object(kind: str, settings: Admission, path: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    webhook: dict[str, Any] = {
        "name": WEBHOOK_NAME,
        "admissionReviewVersions": ["v1"],
        "clientConfig": {**_address(settings, path), "caBundle": _ca_bundle(settings)},
        "failurePolicy": settings.failure_policy,
        "matchPolicy": "Equivalent",
        "rules": rules,
        "sideEffects": "None",
        "timeoutSeconds": int(settings.timeout.total_seconds()),
    }
    if exempt := exempt_namespaces(settings):
        names = {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": exempt}
        webhook["namespaceSelector"] = {"matchExpressions": [names]}
    return {"apiVersion": _GROUP, "kind": kind, "metadata": {"name": NAME}, "webhooks": [webhook]}


def _rule(group: str, resources: tuple[str, ...]) -> dict[str, Any]:
    versions = {"apiGroups": [group], "apiVersions": ["v1"], "operations": _OPERATIONS}
    return {**versions, "resources": list(resources), "scope": "Namespaced"}


def _address(settings: Admission, path: str) -> dict[str, Any]:
    if settings.url:
        return {"url": f"{settings.url.rstrip('/')}{path}"}
    namespace, _, name = settings.service.partition("/")
    return {"service": {"namespace": namespace, "name": name, "path": path, "port": 443}}


def _ca_bundle(settings: Admission) -> str:
    from cryptography import x509  # for who generates alone

    path = settings.ca_file
    assert path is not None  # noqa: S101 - its caller looked
    try:
        raw = path.read_bytes()
        if not x509.load_pem_x509_certificates(raw):
            raise ValueError("there is none")
    except (OSError, ValueError) as error:
        raise InputError(f"the certificates cannot be read: {error}", where=str(path), do="Give PEM files") from error
    return base64.b64encode(raw).decode()
