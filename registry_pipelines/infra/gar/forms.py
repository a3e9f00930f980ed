"""One form for what Google writes in several: repositories, cleanup policies, members, rules of Binary Authorization.

Declared and found values both go through here. Messages are taken as their JSON (``dockerConfig``), which is what REST,
gcloud and the client's types share. Each function is pure. Source: the types of google-cloud-artifact-registry 1.23 and
google-cloud-binary-authorization.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.infra.gar import kinds
from registry_pipelines.infra.settings import Fields, Plain
from registry_pipelines.lifecycle.gar_policy import GarPolicy, read_gar_policies

_NAMES = {
    "docker-hub": ("dockerRepository", "DOCKER_HUB", "DOCKER"),
    "maven-central": ("mavenRepository", "MAVEN_CENTRAL", "MAVEN"),
    "npmjs": ("npmRepository", "NPMJS", "NPM"),
    "pypi": ("pythonRepository", "PYPI", "PYTHON"),
}
"""Upstreams with a name: where it stands, Google's word, the format it has."""

# Repositories


def upstream_format(upstream: str) -> str:
    """The format that an upstream has; empty where it may have any."""
    if upstream in _NAMES:
        return _NAMES[upstream][2]
    return upstream[:3].upper() if upstream.startswith(("apt:", "yum:")) else ""


def repository_fields(document: Mapping[str, Any]) -> dict[str, Plain]:
    """The fields of a repository that is there. document: its JSON."""
    fields: dict[str, Plain] = {
        "format": document.get("format", ""),
        "mode": document.get("mode", "STANDARD_REPOSITORY"),
        "description": document.get("description", ""),
        "kms_key": document.get("kmsKeyName", ""),
        "immutable_tags": bool(document.get("dockerConfig", {}).get("immutableTags")),
        "cleanup": found_cleanup(document.get("cleanupPolicies", {})),
        "cleanup_dry_run": bool(document.get("cleanupPolicyDryRun")),
        "scanning": document.get("vulnerabilityScanningConfig", {}).get("enablementConfig", "INHERITED"),
        "size_bytes": int(document.get("sizeBytes", 0)),
    }
    fields |= {f"{kinds.LABEL}{name}": value for name, value in document.get("labels", {}).items()}
    if maven := document.get("mavenConfig"):
        fields["maven.version_policy"] = maven.get("versionPolicy", "NONE").replace(
            "VERSION_POLICY_UNSPECIFIED", "NONE"
        )
        fields["maven.snapshot_overwrites"] = bool(maven.get("allowSnapshotOverwrites"))
    if remote := document.get("remoteRepositoryConfig"):
        fields |= _remote_fields(remote)
    if document.get("mode") == "VIRTUAL_REPOSITORY":
        policies = document.get("virtualRepositoryConfig", {}).get("upstreamPolicies", ())
        fields["upstreams"] = {
            each["id"]: {"repository": each.get("repository", ""), "priority": int(each.get("priority", 0))}
            for each in sorted(policies, key=lambda one: str(one["id"]))
        }
    return fields


def _remote_fields(remote: Mapping[str, Any]) -> dict[str, Plain]:
    login = remote.get("upstreamCredentials", {}).get("usernamePasswordCredentials", {})
    return {
        "remote.upstream": _upstream_text(remote),
        "remote.username": login.get("username", ""),
        "remote.password_secret": login.get("passwordSecretVersion", ""),
    }


def _upstream_text(remote: Mapping[str, Any]) -> str:
    for name, (field, word, _) in _NAMES.items():
        source = remote.get(field)
        if source is not None:
            return name if source.get("publicRepository") == word else _uri(source)
    for kind in ("apt", "yum"):
        if source := remote.get(f"{kind}Repository"):
            public = source.get("publicRepository", {})
            if public:
                return f"{kind}:{public.get('repositoryBase', '')}/{public.get('repositoryPath', '')}"
            return _uri(source)
    return _uri(remote.get("commonRepository", {}))


def _uri(source: Mapping[str, Any]) -> str:
    return str(source.get("uri") or source.get("customRepository", {}).get("uri", "")).rstrip("/")


def repository_document(wanted: Fields) -> dict[str, Any]:
    """The JSON of a repository with these fields, to make it or to change it."""
    document: dict[str, Any] = {}
    for field, name in _PLAIN.items():
        if field in wanted:
            document[name] = wanted[field]
    if "immutable_tags" in wanted:
        document["dockerConfig"] = {"immutableTags": wanted["immutable_tags"]}
    if "scanning" in wanted:
        document["vulnerabilityScanningConfig"] = {"enablementConfig": wanted["scanning"]}
    if "cleanup" in wanted:
        document["cleanupPolicies"] = {name: {"id": name, **each} for name, each in wanted["cleanup"].items()}
    if labels := _labels(wanted):
        document["labels"] = labels
    maven = {"maven.version_policy": "versionPolicy", "maven.snapshot_overwrites": "allowSnapshotOverwrites"}
    if told := {name: wanted[field] for field, name in maven.items() if field in wanted}:
        if told.get("versionPolicy") == "NONE":
            told["versionPolicy"] = "VERSION_POLICY_UNSPECIFIED"
        document["mavenConfig"] = told
    if "remote.upstream" in wanted:
        document["remoteRepositoryConfig"] = remote_document(wanted)
    if "upstreams" in wanted:
        policies = [{"id": name, **each} for name, each in wanted["upstreams"].items()]
        document["virtualRepositoryConfig"] = {"upstreamPolicies": policies}
    return document


_PLAIN = {
    "format": "format",
    "mode": "mode",
    "description": "description",
    "kms_key": "kmsKeyName",
    "cleanup_dry_run": "cleanupPolicyDryRun",
}
_MASKS = {
    "description": "description",
    "cleanup": "cleanup_policies",
    "cleanup_dry_run": "cleanup_policy_dry_run",
    "immutable_tags": "docker_config",
    "scanning": "vulnerability_scanning_config",
    "upstreams": "virtual_repository_config",
}


def mask(changed: Iterable[str]) -> list[str]:
    """The paths of an update that changes these fields; what has no path of its own is changed as a whole."""
    paths = set()
    for field in changed:
        head = field.partition(".")[0]
        paths.add({"labels": "labels", "remote": "remote_repository_config"}.get(head) or _MASKS[field])
    return sorted(paths)


def remote_document(wanted: Fields) -> dict[str, Any]:
    """A remote repository's source and log-in, as JSON."""
    upstream = str(wanted["remote.upstream"])
    document: dict[str, Any] = {}
    if upstream in _NAMES:
        field, word, _ = _NAMES[upstream]
        document[field] = {"publicRepository": word}
    elif upstream.startswith(("apt:", "yum:")):
        kind, _, rest = upstream.partition(":")
        base, _, path = rest.partition("/")
        document[f"{kind}Repository"] = {"publicRepository": {"repositoryBase": base, "repositoryPath": path}}
    else:
        document["commonRepository"] = {"uri": upstream}
    login = {"username": wanted.get("remote.username"), "passwordSecretVersion": wanted.get("remote.password_secret")}
    if told := {name: value for name, value in login.items() if value}:
        document["upstreamCredentials"] = {"usernamePasswordCredentials": told}
    if wanted.get("remote.validate") is False:
        document["disableUpstreamValidation"] = True
    return document


def _labels(wanted: Fields) -> dict[str, str]:
    return {name.removeprefix(kinds.LABEL): value for name, value in wanted.items() if name.startswith(kinds.LABEL)}


# Cleanup policies


def cleanup(text: str) -> dict[str, Plain]:
    """Cleanup policies by their name, each in one form. text: gcloud's file, or the API's JSON. Raises
    LifecycleInvalid."""
    return dict(sorted((each.id, _cleanup_policy(each)) for each in read_gar_policies(text).policies))


def found_cleanup(policies: Mapping[str, Any]) -> dict[str, Plain]:
    """Those of a repository that is there; as Google wrote them, where they are of a kind that is not known here."""
    if not policies:
        return {}
    try:
        return cleanup(json.dumps({"cleanupPolicies": policies}))
    except RegistryPipelinesError:
        return dict(policies)


def _cleanup_policy(policy: GarPolicy) -> dict[str, Plain]:
    plain = policy.plain()
    if "condition" not in plain:
        return {"action": "KEEP", "mostRecentVersions": _in_order(plain["mostRecentVersions"])}
    condition = _in_order(plain["condition"])
    state = str(condition.pop("tagState")).upper()
    return {"action": "KEEP" if policy.keeps else "DELETE", "condition": _any_state(state) | condition}


def _any_state(state: str) -> dict[str, Plain]:
    return {} if state == "ANY" else {"tagState": state}


def _in_order(values: Mapping[str, Plain]) -> dict[str, Plain]:
    return {name: sorted(set(each)) if isinstance(each, list) else each for name, each in values.items()}


def cleanup_file(policies: Mapping[str, Plain]) -> list[dict[str, Plain]]:
    """The other way round: as gcloud reads it."""
    return [{"name": name, **each, "action": {"type": str(each["action"]).title()}} for name, each in policies.items()]


# Who may read


def bindings(policy: Mapping[str, Any], role: str) -> list[str]:
    """Members that have a role without a condition, sorted. policy: the JSON of an IAM policy."""
    found = {
        member
        for binding in policy.get("bindings", ())
        if binding.get("role") == role and not binding.get("condition")
        for member in binding.get("members", ())
    }
    return sorted(found)


def with_members(policy: Mapping[str, Any], role: str, members: Sequence[str]) -> dict[str, Any]:
    """The policy with exactly these members of a role that has no condition; everything else, its etag too, stays."""
    others = [each for each in policy.get("bindings", ()) if each.get("role") != role or each.get("condition")]
    own = [{"role": role, "members": sorted(members)}] if members else []
    return {**policy, "bindings": [*others, *own]}


def reader_rows(policy: Mapping[str, Any], repository: str, source: str) -> list[dict[str, str]]:
    """Who may pull by a policy, and where that stands."""
    rows = []
    for binding in policy.get("bindings", ()):
        if binding.get("role") not in kinds.PULLING:
            continue
        condition = binding.get("condition") or {}
        said = condition.get("title") or condition.get("expression", "")
        for member in sorted(binding.get("members", ())):
            rows.append(
                {
                    "repository": repository,
                    "principal": member,
                    "effect": str(binding["role"]),
                    "condition": str(said),
                    "from": source,
                }
            )
    return rows


# Binary Authorization


def rule_fields(rule: Mapping[str, Any]) -> dict[str, Plain]:
    """A rule of admission in one form."""
    return {
        "evaluation": rule.get("evaluationMode", ""),
        "enforcement": rule.get("enforcementMode", ""),
        "attestors": sorted(rule.get("requireAttestationsBy", ())),
    }


def rule_document(fields: Mapping[str, Plain]) -> dict[str, Any]:
    """The other way round."""
    document = {"evaluationMode": fields["evaluation"], "enforcementMode": fields["enforcement"]}
    return {**document, **({"requireAttestationsBy": list(fields["attestors"])} if fields["attestors"] else {})}


def policy_fields(policy: Mapping[str, Any]) -> dict[str, Plain]:
    """The project's policy."""
    fields: dict[str, Plain] = {
        "default": rule_fields(policy.get("defaultAdmissionRule", {})),
        "always_allowed": sorted(each["namePattern"] for each in policy.get("admissionWhitelistPatterns", ())),
        "system_images": policy.get("globalPolicyEvaluationMode") == "ENABLE",
        "description": policy.get("description", ""),
    }
    for name, rule in sorted(policy.get("clusterAdmissionRules", {}).items()):
        fields[f"{kinds.CLUSTER}{name}"] = rule_fields(rule)
    return fields


def policy_document(found: Mapping[str, Any], wanted: Fields) -> dict[str, Any]:
    """The policy that is there, with what is declared in its place; Google takes it as a whole, with its etag."""
    document = dict(found)
    if "default" in wanted:
        document["defaultAdmissionRule"] = rule_document(wanted["default"])
    if "always_allowed" in wanted:
        document["admissionWhitelistPatterns"] = [{"namePattern": each} for each in wanted["always_allowed"]]
    if "system_images" in wanted:
        document["globalPolicyEvaluationMode"] = "ENABLE" if wanted["system_images"] else "DISABLE"
    if "description" in wanted:
        document["description"] = wanted["description"]
    clusters = {
        name.removeprefix(kinds.CLUSTER): rule_document(rule)
        for name, rule in wanted.items()
        if name.startswith(kinds.CLUSTER)
    }
    if clusters:
        document["clusterAdmissionRules"] = {**document.get("clusterAdmissionRules", {}), **clusters}
    return document


def attestor_fields(attestor: Mapping[str, Any]) -> dict[str, Plain]:
    """An attestor; its keys each as a field, by id."""
    note = attestor.get("userOwnedGrafeasNote", {})
    keys = note.get("publicKeys", ())
    return {
        "description": attestor.get("description", ""),
        "note": note.get("noteReference", ""),
        "keys": sorted(str(each.get("id", "")) for each in keys),
    }


def perimeter_fields(perimeter: Mapping[str, Any]) -> dict[str, Plain]:
    """A perimeter's services and projects, each a field; those that are only planned (``spec``) do not count."""
    status = perimeter.get("status", {})
    fields: dict[str, Plain] = {f"{kinds.SERVICE}{each}": True for each in status.get("restrictedServices", ())}
    for each in status.get("resources", ()):
        if each.startswith("projects/"):
            fields[f"{kinds.PROJECT}{each.removeprefix('projects/')}"] = True
    return fields


def perimeter_document(perimeter: Mapping[str, Any], wanted: Fields) -> dict[str, Any]:
    """The ``status`` of a perimeter with what is declared added; nothing that is there goes."""
    status = dict(perimeter.get("status", {}))
    services = {name.removeprefix(kinds.SERVICE) for name in wanted if name.startswith(kinds.SERVICE)}
    projects = {f"projects/{name.removeprefix(kinds.PROJECT)}" for name in wanted if name.startswith(kinds.PROJECT)}
    status["restrictedServices"] = sorted(services | set(status.get("restrictedServices", ())))
    status["resources"] = sorted(projects | set(status.get("resources", ())))
    return status


def key_id(version: str) -> str:
    """The id that a key of Cloud KMS has in an attestor; source: Binary Authorization's guide for such keys."""
    return f"//cloudkms.googleapis.com/v1/{version}"
