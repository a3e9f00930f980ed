"""Resources of Terraform's provider google as the settings of one Artifact Registry: the way back of ``google``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from registry_pipelines.infra.gar import alarms, forms, kinds
from registry_pipelines.infra.settings import Plain, Setting
from registry_pipelines.infra.terraform.reading import Resource, blocks

Fields = dict[str, Plain]
_READERS = ("google_artifact_registry_repository_iam_binding", "google_artifact_registry_repository_iam_member")
_OF_REPOSITORY = ("google_artifact_registry_repository", *_READERS)


class FromGoogle:
    """Settings of the registry of a project in a location. notes: what is left out, and why."""

    def __init__(self, place: str, *, project: str, location: str) -> None:
        self.notes: list[str] = []
        self._place, self._project, self._location = place, project, location
        self._members: dict[tuple[str, str], set[str]] = {}
        self._channels: dict[str, str] = {}
        """Display names of notification channels, by Google's own."""

    def settings(self, resources: list[Resource]) -> list[Setting]:
        """The settings that resources are, as though they had been read from the cloud."""
        makers: dict[str, Callable[[Resource], Iterator[tuple[str, str, Fields]]]] = {
            "google_artifact_registry_repository": self._repository,
            "google_container_analysis_note": self._note,
            "google_binary_authorization_attestor": self._attestor,
            "google_binary_authorization_policy": self._policy,
            "google_monitoring_notification_channel": self._channel,
            "google_monitoring_alert_policy": self._alert,
        }
        self._channels = {
            each.text("name"): each.text("display_name")
            for each in resources
            if each.type == "google_monitoring_notification_channel"
        }
        found: list[Setting] = []
        for each in resources:
            if not each.type.startswith(
                ("google_artifact_registry_", "google_binary_", *makers, "google_project_iam_m")
            ):
                continue
            if elsewhere := self._elsewhere(each):
                self.notes.append(f"{each.address} is in {elsewhere}, and not of this registry; left out")
                continue
            if each.unknown:
                names = ", ".join(each.unknown)
                self.notes.append(f"{each.address}: Terraform works out {names}; read the state, or declare it by hand")
            try:
                if each.type in (*_READERS, "google_project_iam_member"):
                    self._member(each)
                elif each.type in makers:
                    made = [*makers[each.type](each)]
                    found += [
                        Setting(kind=kind, place=self._place, name=name, found=fields) for kind, name, fields in made
                    ]
                else:
                    self.notes.append(f"{each.address}: {each.type} is not declared by `infra`; left out")
            except (ValueError, TypeError, LookupError, AttributeError) as error:
                self.notes.append(f"{each.address} cannot be read ({str(error)[:200]}); left out")
        return [*found, *self._readers()]

    def _elsewhere(self, each: Resource) -> str:
        project, location = each.text("project").removeprefix("projects/"), each.text("location")
        if project and project != self._project:
            return f"project {project}"
        return location if each.type in _OF_REPOSITORY and location and location != self._location else ""

    def _repository(self, each: Resource) -> Iterator[tuple[str, str, Fields]]:
        """The resource's fields are those of the API, in other letters."""
        document = {_camel(name): _json(value) for name, value in each.body.items() if value not in (None, "", [], {})}
        document["cleanupPolicies"] = {one["id"]: _json(one) for one in each.blocks("cleanup_policies")}
        for name in _ONE:
            if listed := each.blocks(name):
                document[_camel(name)] = _json(listed[0])
        fields = forms.repository_fields(document)
        kind = kinds.VIRTUAL if fields["mode"] == "VIRTUAL_REPOSITORY" else kinds.REPOSITORY
        yield kind, each.body["repository_id"], fields

    def _member(self, each: Resource) -> None:
        if each.body["role"] != kinds.READER or each.blocks("condition"):
            if each.type != "google_project_iam_member":
                self.notes.append(f"{each.address}: only {kinds.READER} without a condition is declared; left out")
            return
        members = each.texts("members") or [each.body["member"]]
        repository = "" if each.type == "google_project_iam_member" else each.body["repository"].rpartition("/")[2]
        self._members.setdefault((kinds.READERS if repository else "", repository), set()).update(members)

    def _readers(self) -> Iterator[Setting]:
        for (kind, repository), members in self._members.items():
            if kind:
                fields: Fields = {"members": sorted(members)}
                yield Setting(kind=kind, place=self._place, name=repository, found=fields)
            else:
                fields = {f"{kinds.MEMBER}{each}": True for each in sorted(members)}
                yield Setting(kind=kinds.PROJECT_READERS, place=self._place, name=self._project, found=fields)

    def _channel(self, each: Resource) -> Iterator[tuple[str, str, Fields]]:
        labels = each.body.get("labels") or {}
        to = labels.get("email_address") or labels.get("topic") or ""
        enabled = each.body.get("enabled", True) is not False
        yield kinds.CHANNEL, each.body["display_name"], {"type": each.text("type"), "to": to, "enabled": enabled}

    def _alert(self, each: Resource) -> Iterator[tuple[str, str, Fields]]:
        conditions = [_json(one) for one in each.blocks("conditions")]
        for one in conditions:
            threshold = one.get("conditionThreshold") or {}
            aggregation = threshold.get("aggregations") or []
            threshold["aggregations"] = aggregation if isinstance(aggregation, list) else [aggregation]
        document = {
            "conditions": conditions,
            "enabled": each.body.get("enabled", True) is not False,
            "severity": each.text("severity"),
            "documentation": _json(next(iter(each.blocks("documentation")), {})),
        }
        told = [self._channels.get(one) or one for one in each.texts("notification_channels")]
        yield kinds.ALERT, each.body["display_name"], alarms.policy_fields(document, told)

    def _note(self, each: Resource) -> Iterator[tuple[str, str, Fields]]:
        [authority] = each.blocks("attestation_authority")
        [hint] = blocks(authority, "hint")
        yield kinds.NOTE, each.body["name"], {"kind": "ATTESTATION", "hint": hint["human_readable_name"]}

    def _attestor(self, each: Resource) -> Iterator[tuple[str, str, Fields]]:
        [authority] = each.blocks("attestation_authority_note")
        keys = sorted(one.get("id") or "" for one in blocks(authority, "public_keys"))
        note = str(authority.get("note_reference") or each.body["name"])
        fields = {"note": note, "keys": keys, "description": each.text("description")}
        yield kinds.ATTESTOR, each.body["name"], fields

    def _policy(self, each: Resource) -> Iterator[tuple[str, str, Fields]]:
        clusters = {one["cluster"]: self._rule(one) for one in each.blocks("cluster_admission_rules")}
        [default] = each.blocks("default_admission_rule")
        document = {
            "defaultAdmissionRule": self._rule(default),
            "clusterAdmissionRules": clusters,
            "admissionWhitelistPatterns": [_json(one) for one in each.blocks("admission_whitelist_patterns")],
            "globalPolicyEvaluationMode": each.text("global_policy_evaluation_mode"),
            "description": each.text("description"),
        }
        yield kinds.POLICY, self._project, forms.policy_fields(document)

    def _rule(self, rule: dict[str, Any]) -> dict[str, Any]:
        """Terraform may name an attestor of the same project by its name alone."""
        named = [
            one if "/" in one else f"projects/{self._project}/attestors/{one}"
            for one in rule.get("require_attestations_by") or ()
        ]
        return {**_json(rule), "requireAttestationsBy": named}


_ONE = (
    "docker_config",
    "maven_config",
    "vulnerability_scanning_config",
    "remote_repository_config",
    "virtual_repository_config",
)
"""Blocks of a repository that stand there once."""


def _json(value: Any) -> Any:
    """A value with the names of the API; a block that stands there once, which a state has in a list, as an object."""
    if isinstance(value, dict):
        return {_camel(name): _once(name, each) for name, each in value.items() if each not in (None, "", [], {})}
    return [_json(each) for each in value] if isinstance(value, list) else value


def _once(name: str, value: Any) -> Any:
    many = ("upstream_policies", "cleanup_policies", "public_keys")
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict) and name not in many:
        return _json(value[0])
    return _json(value)


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(each.title() for each in rest)


__all__ = ["FromGoogle"]
