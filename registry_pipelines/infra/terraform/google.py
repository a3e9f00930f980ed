"""Artifact Registry's settings as resources of Terraform's provider google.

Source: schemas of the provider (6.50.0; run and seen with 8.7.0), which are the fields of Google's own API.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from registry_pipelines.infra.gar import forms, kinds
from registry_pipelines.infra.settings import Plain, Setting
from registry_pipelines.infra.terraform.blocks import Block, LeftOut, label, without_empty

CONSTRAINT = ">= 6.50, < 9"
"""Versions that know what is written; 6.50 has ``vulnerability_scanning_config``."""

Made = Iterator[Block | LeftOut]


class GoogleWriter:
    """Blocks for one registry. place: its name in the configuration; project, location: its own."""

    def __init__(self, place: str, project: str, location: str) -> None:
        self._place, self._project, self._location = place, project, location
        self._repositories: dict[str, Block] = {}
        self._notes: dict[str, Block] = {}
        self._attestors: dict[str, Block] = {}
        self._keys: dict[str, Block] = {}
        self._channels: dict[str, Block] = {}

    def write(self, settings: Sequence[Setting]) -> list[Block | LeftOut]:
        """What Terraform is told, and what it cannot be told. settings: the declared ones of one registry."""
        makers = {
            kinds.REPOSITORY: self._repository,
            kinds.VIRTUAL: self._repository,
            kinds.READERS: self._readers,
            kinds.PROJECT_READERS: self._project_readers,
            kinds.NOTE: self._note,
            kinds.ATTESTOR: self._attestor,
            kinds.POLICY: self._policy,
            kinds.PERIMETER: self._perimeter,
            kinds.CHANNEL: self._channel,
            kinds.ALERT: self._alert,
        }
        made: list[Block | LeftOut] = []
        for each in sorted(settings, key=lambda one: kinds.ORDER.index(one.kind)):
            if each.absent:
                made.append(
                    LeftOut(about=str(each.key), why="declared absent: Terraform deletes only what it made itself")
                )
            elif each.kind == kinds.KEY:
                why = "keys are looked at and compared, never made: make them with google_kms_crypto_key"
                made.append(LeftOut(about=str(each.key), why=why))
            elif each.wanted is not None:
                made += makers[each.kind](each, each.wanted)
        return [*made, *self._keys.values()]

    def _block(self, kind: str, setting: Setting, body: Mapping[str, Any], import_id: str, name: str = "") -> Block:
        return Block(
            type=kind,
            label=label(self._place, name or setting.name),
            body=without_empty(body),
            about=str(setting.key),
            import_id=import_id,
        )

    def _repository(self, setting: Setting, wanted: Mapping[str, Plain]) -> Made:
        labels = {name.removeprefix(kinds.LABEL): each for name, each in wanted.items() if name.startswith(kinds.LABEL)}
        body: dict[str, Any] = {
            "project": self._project,
            "location": self._location,
            "repository_id": setting.name,
            "format": wanted["format"],
            "mode": wanted["mode"],
            "description": wanted.get("description"),
            "kms_key_name": wanted.get("kms_key"),
            "labels": dict(sorted(labels.items())) or None,
            "cleanup_policy_dry_run": wanted.get("cleanup_dry_run"),
        }
        if "immutable_tags" in wanted:
            body["docker_config"] = {"immutable_tags": wanted["immutable_tags"]}
        if "scanning" in wanted:
            body["vulnerability_scanning_config"] = {"enablement_config": wanted["scanning"]}
        if "cleanup" in wanted:
            body["cleanup_policies"] = [_cleanup(name, each) for name, each in wanted["cleanup"].items()]
        if "maven.version_policy" in wanted or "maven.snapshot_overwrites" in wanted:
            policy = str(wanted.get("maven.version_policy", "NONE")).replace("NONE", "VERSION_POLICY_UNSPECIFIED")
            overwrites = wanted.get("maven.snapshot_overwrites")
            body["maven_config"] = without_empty({"version_policy": policy, "allow_snapshot_overwrites": overwrites})
        if "remote.upstream" in wanted:
            body["remote_repository_config"] = _snake(forms.remote_document(wanted))
        if "upstreams" in wanted:
            body["virtual_repository_config"] = {"upstream_policies": [*self._upstreams(wanted["upstreams"])]}
        block = self._block("google_artifact_registry_repository", setting, body, self._whole(setting.name))
        self._repositories[setting.name] = block
        yield block

    def _whole(self, repository: str) -> str:
        return f"projects/{self._project}/locations/{self._location}/repositories/{repository}"

    def _upstreams(self, upstreams: Mapping[str, Mapping[str, Plain]]) -> Iterator[dict[str, Any]]:
        """Those that are written here are references, so that they are made first."""
        own = {self._whole(name): block for name, block in self._repositories.items()}
        for name, each in sorted(upstreams.items()):
            block = own.get(each["repository"])
            repository = block.reference("id") if block else each["repository"]
            yield {"id": name, "repository": repository, "priority": each["priority"]}

    def _readers(self, setting: Setting, wanted: Mapping[str, Plain]) -> Made:
        """The binding of the role: these members, and nobody else, as it is declared."""
        block = self._repositories.get(setting.name)
        whole = self._whole(setting.name)
        body = {
            "project": self._project,
            "location": self._location,
            "repository": block.reference("repository_id") if block else setting.name,
            "role": kinds.READER,
            "members": wanted["members"],
        }
        kind = "google_artifact_registry_repository_iam_binding"
        yield self._block(kind, setting, body, f"{whole} {kinds.READER}")

    def _project_readers(self, setting: Setting, wanted: Mapping[str, Plain]) -> Made:
        for field in wanted:
            member = field.removeprefix(kinds.MEMBER)
            body = {"project": self._project, "role": kinds.READER, "member": member}
            import_id = f"{self._project} {kinds.READER} {member}"
            yield self._block("google_project_iam_member", setting, body, import_id, name=member)

    def _note(self, setting: Setting, wanted: Mapping[str, Plain]) -> Made:
        authority = {"hint": {"human_readable_name": wanted["hint"]}}
        body = {"project": self._project, "name": setting.name, "attestation_authority": authority}
        import_id = f"projects/{self._project}/notes/{setting.name}"
        block = self._block("google_container_analysis_note", setting, body, import_id)
        self._notes[import_id] = block
        yield block

    def _attestor(self, setting: Setting, wanted: Mapping[str, Plain]) -> Made:
        note = self._notes.get(wanted["note"])
        authority = {
            "note_reference": note.reference("name") if note else wanted["note"],
            "public_keys": [self._key(each) for each in wanted["keys"]],
        }
        body = {
            "project": self._project,
            "name": setting.name,
            "description": wanted.get("description"),
            "attestation_authority_note": authority,
        }
        whole = f"projects/{self._project}/attestors/{setting.name}"
        self._attestors[whole] = self._block("google_binary_authorization_attestor", setting, body, whole)
        yield self._attestors[whole]

    def _key(self, key: str) -> dict[str, Any]:
        """A key of an attestor; Terraform asks Cloud KMS for its public half."""
        version = key.removeprefix(forms.key_id(""))
        ring, _, number = version.partition("/cryptoKeyVersions/")
        if key not in self._keys:
            body = {"crypto_key": ring, "version": int(number)}
            self._keys[key] = Block(
                type="google_kms_crypto_key_version",
                label=label(self._place, version),
                body=body,
                data=True,
                about=f"{kinds.KEY} {version}",
            )
        public = self._keys[key].reference("public_key[0]")
        pem, algorithm = (type(public)(f"{public[:-1]}.{field}}}") for field in ("pem", "algorithm"))
        return {"id": key, "pkix_public_key": {"public_key_pem": pem, "signature_algorithm": algorithm}}

    def _policy(self, setting: Setting, wanted: Mapping[str, Plain]) -> Made:
        clusters = [
            {"cluster": name.removeprefix(kinds.CLUSTER), **self._rule(rule)}
            for name, rule in sorted(wanted.items())
            if name.startswith(kinds.CLUSTER)
        ]
        body: dict[str, Any] = {
            "project": self._project,
            "description": wanted.get("description"),
            "default_admission_rule": self._rule(wanted["default"]),
            "cluster_admission_rules": clusters or None,
        }
        if "always_allowed" in wanted:
            body["admission_whitelist_patterns"] = [{"name_pattern": each} for each in wanted["always_allowed"]]
        if "system_images" in wanted:
            body["global_policy_evaluation_mode"] = "ENABLE" if wanted["system_images"] else "DISABLE"
        yield self._block(
            "google_binary_authorization_policy", setting, body, f"projects/{self._project}", name="policy"
        )
        why = "Terraform owns the whole policy: rules that are there and not declared go when it is applied"
        yield LeftOut(about=str(setting.key), why=why)

    def _rule(self, rule: Mapping[str, Plain]) -> dict[str, Any]:
        named = [
            self._attestors[each].reference("name") if each in self._attestors else each for each in rule["attestors"]
        ]
        written = {"evaluation_mode": rule["evaluation"], "enforcement_mode": rule["enforcement"]}
        return {**written, **({"require_attestations_by": named} if named else {})}

    def _perimeter(self, setting: Setting, wanted: Mapping[str, Plain]) -> Made:
        """Projects are added one by one; the services of a perimeter have no resource of their own."""
        for field in sorted(wanted):
            if field.startswith(kinds.PROJECT):
                resource = f"projects/{field.removeprefix(kinds.PROJECT)}"
                body = {"perimeter_name": setting.name, "resource": resource}
                kind = "google_access_context_manager_service_perimeter_resource"
                name = f"{setting.name.rpartition('/')[2]}-{field.removeprefix(kinds.PROJECT)}"
                yield self._block(kind, setting, body, f"{setting.name}/{resource}", name=name.lower())
        services = [field.removeprefix(kinds.SERVICE) for field in sorted(wanted) if field.startswith(kinds.SERVICE)]
        if services:
            why = f"no resource adds {', '.join(services)} to a perimeter that others own; its own declaration must"
            yield LeftOut(about=f"{setting.key} services", why=why)

    def _channel(self, setting: Setting, wanted: Mapping[str, Plain]) -> Made:
        body = {
            "project": self._project,
            "display_name": setting.name,
            "type": wanted["type"],
            "labels": {"email_address" if wanted["type"] == "email" else "topic": wanted.get("to")},
            "enabled": wanted.get("enabled"),
        }
        self._channels[setting.name] = self._block("google_monitoring_notification_channel", setting, body, "")
        yield self._channels[setting.name]

    def _alert(self, setting: Setting, wanted: Mapping[str, Plain]) -> Made:
        """Channels that are written here are references, so that they are made first."""
        threshold = {
            "filter": wanted.get("filter"),
            "comparison": wanted["comparison"],
            "threshold_value": wanted.get("above"),
            "duration": f"{wanted['duration_s']}s",
            "aggregations": {"alignment_period": wanted.get("period"), "per_series_aligner": wanted.get("aligner")},
            "trigger": {"count": 1},
        }
        told = [
            self._channels[each].reference("name") if each in self._channels else each for each in wanted["channels"]
        ]
        text = wanted.get("documentation")
        body = {
            "project": self._project,
            "display_name": setting.name,
            "combiner": "OR",
            "enabled": wanted.get("enabled"),
            "severity": wanted.get("severity"),
            "conditions": {"display_name": setting.name, "condition_threshold": without_empty(threshold)},
            "notification_channels": told,
            "documentation": {"content": text, "mime_type": "text/markdown"} if text else None,
        }
        yield self._block("google_monitoring_alert_policy", setting, body, "")


def _cleanup(name: str, policy: Mapping[str, Plain]) -> dict[str, Any]:
    return {"id": name, **_snake(policy)}


def _snake(value: Plain) -> Any:
    """JSON of Google's API with the names that Terraform has for them."""
    if isinstance(value, Mapping):
        return {_name(key): _snake(each) for key, each in value.items()}
    return [_snake(each) for each in value] if isinstance(value, list) else value


def _name(key: str) -> str:
    return "".join(f"_{each.lower()}" if each.isupper() else each for each in key)


__all__ = ["CONSTRAINT", "GoogleWriter"]
