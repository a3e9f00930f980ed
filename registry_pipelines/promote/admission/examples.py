"""What API servers check by themselves (tests/kubernetes tries it), and Kyverno, whose example nobody ran here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from registry_pipelines.promote.admission.configurations import PODS, exempt_namespaces
from registry_pipelines.promote.admission.model import Admission
from registry_pipelines.promote.admission.rulings import Ruling
from registry_pipelines.yaml_text import to_yaml

NOT_RUN = "An example, *not run here*: read it, try it in a cluster that nobody needs, then use it."

MOMENT = "It knows the digests of the moment it was written."


def validating_policy_files(settings: Admission, startable: Mapping[str, Iterable[Ruling]]) -> dict[str, bytes]:
    """A ValidatingAdmissionPolicy (``admissionregistration.k8s.io/v1``) of pods: images of ours by a digest that may
    start now, others where they are approved. Applied again whenever a release was promoted or refused. startable: as
    in :func:`~registry_pipelines.promote.admission.rego.rego_files`."""
    digests = sorted(f"{name}@{each.digest}" for name, rulings in startable.items() for each in rulings)
    approved = [f"{each.images}/" for each in settings.approved]
    images = "object.spec.?{0}.orValue([]).map(c, c.image)"
    kinds = ("containers", "initContainers", "ephemeralContainers")
    of_volumes = "object.spec.?volumes.orValue([]).filter(v, has(v.image)).map(v, v.image.?reference.orValue(''))"
    ends = "@sha256:[0-9a-f]{64}$" if settings.require_digests else "(@sha256:[0-9a-f]{64}|:[^/:@]+)$"
    every = " + ".join([*(images.format(kind) for kind in kinds), of_volumes])
    policy: dict[str, Any] = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "registry-pipelines-images"},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [_pods()]},
            "variables": [
                {"name": "startable", "expression": json.dumps(digests)},
                {"name": "approved", "expression": json.dumps(approved)},
                {"name": "images", "expression": every},
            ],
            "validations": [
                {
                    "expression": "variables.images.all(i, i in variables.startable || "
                    "(variables.approved.exists(a, i.startsWith(a)) && !i.endsWith(':latest') "
                    f"&& i.matches('{ends}')))",
                    "message": "an image is neither a promoted release by its digest nor approved",
                    "reason": "Forbidden",
                }
            ],
        },
    }
    binding: dict[str, Any] = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "registry-pipelines-images"},
        "spec": {"policyName": "registry-pipelines-images", "validationActions": ["Deny"]},
    }
    if exempt := exempt_namespaces(settings):
        names = {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": exempt}
        binding["spec"]["matchResources"] = {"namespaceSelector": {"matchExpressions": [names]}}
    return {
        "policy.yaml": to_yaml(policy, comment=MOMENT),
        "binding.yaml": to_yaml(binding),
    }


def kyverno_files(settings: Admission, sources: Mapping[str, str], keys: Sequence[bytes]) -> dict[str, bytes]:
    """A ClusterPolicy of Kyverno (``kyverno.io/v1``, verifyImages): images of ours signed by a person's key, others
    where they are approved; tags become digests. sources, keys: as in :func:`~registry_pipelines.promote.admission.
    containers.containers_files`.

    It reads the ``.sig`` tag, the one form that ``type: Cosign`` of verifyImages knows; Kyverno 1.19.0 refuses bundles
    that a key signed without a log.
    """
    entries = [
        {"keys": {"publicKeys": key.decode(), "rekor": {"ignoreTlog": True}, "ctlog": {"ignoreSCT": True}}}
        for key in keys
    ]
    references = [f"{name}{end}" for name in sorted(sources) for end in (":*", "@*")]
    by_tag = not settings.require_digests or "digest" in settings.mutate  # it becomes a digest before it is looked at
    verify = {
        "imageReferences": references,
        "type": "Cosign",
        "mutateDigest": by_tag,
        "verifyDigest": True,
        "required": True,
        "attestors": [{"count": 1, "entries": entries}],
    }
    allowed = [*(name for name in sorted(sources)), *(f"{each.images}/*" for each in settings.approved)]
    ours = references if by_tag else [f"{name}@*" for name in sorted(sources)]
    others = [f"{each.images}/*{'@sha256:*' if settings.require_digests else ''}" for each in settings.approved]
    images = " | ".join([*ours, *others])
    pod = {"any": [{"resources": {"kinds": ["Pod"]}}]}
    pattern = [{"image": images}]
    lists = {"containers": pattern, "=(initContainers)": pattern, "=(ephemeralContainers)": pattern}
    rules: list[dict[str, Any]] = [
        {"name": "signed", "match": pod, "verifyImages": [verify]},
        {
            "name": "approved",
            "match": pod,
            "validate": {"message": f"images come from {', '.join(allowed)}", "pattern": {"spec": lists}},
        },
    ]
    exempt = exempt_namespaces(settings)
    for rule in rules if exempt else ():
        rule["exclude"] = {"any": [{"resources": {"namespaces": exempt}}]}
    policy = {
        "apiVersion": "kyverno.io/v1",
        "kind": "ClusterPolicy",
        "metadata": {"name": "registry-pipelines-images"},
        "spec": {"validationFailureAction": "Enforce", "webhookTimeoutSeconds": 10, "rules": rules},
    }
    return {"clusterpolicy.yaml": to_yaml(policy, comment=NOT_RUN)}


def _pods() -> dict[str, Any]:
    return {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": list(PODS),
        "scope": "Namespaced",
    }


__all__ = ["kyverno_files", "validating_policy_files"]
