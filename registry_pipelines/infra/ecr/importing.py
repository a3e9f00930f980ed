"""What is there of an ECR registry, as it would be declared: the section of the configuration, and its policy files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from registry_pipelines.infra.ecr import alarms, forms, kinds
from registry_pipelines.infra.importing import Document, Importing
from registry_pipelines.infra.settings import Fields, Setting


class Imported(Importing):
    """See :class:`Importing`."""

    def __init__(self, place: str, settings: Iterable[Setting], *, folder: str = "") -> None:
        super().__init__(place, settings, folder=folder)
        self.section = {"kind": "ecr", **self._sections()}

    def _sections(self) -> Document:
        registry_policy = self.of(kinds.REGISTRY_POLICY).get("")
        sections: Document = {
            "repositories": self._repositories(),
            "templates": [self._template(name, fields) for name, fields in self.of(kinds.TEMPLATE).items()],
            "pull_through": [_pull_through(name, fields) for name, fields in self.of(kinds.PULL_THROUGH).items()],
            "replication": self._replication(),
            "registry_policy": self._policy("registry", registry_policy) if registry_policy else None,
            "scanning": _scanning(self.of(kinds.SCANNING).get("")),
            "signing": [
                {"profile": name, **({"repositories": fields["repositories"]} if fields["repositories"] else {})}
                for name, fields in self.of(kinds.SIGNING).items()
            ],
            "signer_profiles": {name: dict(fields) for name, fields in self.of(kinds.PROFILE).items()},
            "account": _account(self.of(kinds.ACCOUNT)),
            "pull_time_exclusions": sorted(self.of(kinds.EXCLUSION)),
            "kms_keys": [_key(name, fields) for name, fields in self.of(kinds.KEY).items()],
            "vpc_endpoints": self._endpoints(),
            "topics": [_topic(name, fields) for name, fields in self.of(kinds.TOPIC).items()],
            "alarms": self._alarms(),
        }
        return {name: value for name, value in sections.items() if value}

    def _repositories(self) -> list[Document]:
        groups: dict[str, Document] = {}
        for name, fields in sorted(self.of(kinds.REPOSITORY).items()):
            entry = {**_common(fields), "scan_on_push": fields["scan_on_push"]}
            if lifecycle := self.of(kinds.LIFECYCLE).get(name):
                entry["lifecycle"] = self.file("lifecycle", _stem(name), lifecycle["policy"])
            if policy := self.of(kinds.POLICY).get(name):
                entry["policy"] = self._policy(_stem(name), policy)
            alike = json.dumps(entry, sort_keys=True)
            groups.setdefault(alike, {"names": [], **entry})["names"].append(name)
        return list(groups.values())

    def _template(self, name: str, fields: Fields) -> Document:
        entry = {"prefix": "" if name == kinds.ROOT else name, "applied_for": fields["applied_for"], **_common(fields)}
        entry |= {each: fields[each] for each in ("description", "role") if fields.get(each)}
        if fields.get("lifecycle"):
            entry["lifecycle"] = self.file("lifecycle", f"template-{_stem(name)}", fields["lifecycle"])
        if policy := {key: value for key, value in fields.items() if key.startswith(forms.STATEMENT)}:
            entry["policy"] = self._policy(f"template-{_stem(name)}", policy)
        return entry

    def _replication(self) -> list[Document]:
        entries = []
        edges = {name: dict(fields) for name, fields in self.of(kinds.REPLICATION).items()}
        for rule in forms.rules(edges):
            entry: Document = {"to": [forms.destination_name(each) for each in rule["destinations"]]}
            if "repositoryFilters" in rule:
                entry["prefixes"] = [each["filter"] for each in rule["repositoryFilters"]]
            entries.append(entry | ({"deletes": True} if "deleteReplication" in rule else {}))
        return entries

    def _endpoints(self) -> list[Document]:
        networks: dict[str, dict[str, Fields]] = {}
        for name, fields in self.of(kinds.ENDPOINT).items():
            vpc, _, service = name.partition("/")
            networks.setdefault(vpc, {})[service] = fields
        entries = []
        for vpc, there in sorted(networks.items()):
            if len(there) < 3 or _interface(there["ecr.api"]) != _interface(there["ecr.dkr"]):
                self.notes.append(f"the endpoints of {vpc} are not the three that are declared together; left out")
                continue
            shared = _interface(there["ecr.api"])
            entries.append({"vpc": vpc, **shared, "route_tables": there["s3"]["route_tables"]})
        return entries

    def _alarms(self) -> list[Document]:
        entries = []
        for name, fields in self.of(kinds.ALARM).items():
            entry = alarms.declared_alarm(name, fields, place=self._place)
            if entry is None:
                self.notes.append(f"alarm {name} watches something else, or otherwise; it is left out")
            else:
                entries.append(entry)
        return entries

    def _policy(self, stem: str, fields: Fields) -> str:
        return self.file("policy", stem, json.loads(forms.policy_text(fields)))


def _stem(name: str) -> str:
    return name.replace("/", "--") or "all"


def _common(fields: Fields) -> Document:
    entry: Document = {"immutable": fields["mutability"].startswith("IMMUTABLE")}
    entry |= {"movable": fields["excluded_tags"]} if fields["excluded_tags"] else {}
    entry["encryption"] = fields["encryption"]
    entry |= {"kms_key": fields["kms_key"]} if fields["kms_key"] else {}
    labels = {
        key.removeprefix(forms.LABEL): value for key, value in sorted(fields.items()) if key.startswith(forms.LABEL)
    }
    return entry | ({"labels": labels} if labels else {})


def _pull_through(name: str, fields: Fields) -> Document:
    prefix = {"prefix": "" if name == kinds.ROOT else name, "upstream": fields["upstream"]}
    upstream = fields["upstream_prefix"]
    named = {} if upstream == kinds.ROOT else {"upstream_prefix": upstream}
    return prefix | named | {each: fields[each] for each in ("secret", "role") if fields[each]}


def _scanning(fields: Fields | None) -> Document:
    if fields is None or (fields["type"] == "BASIC" and not (fields["on_push"] or fields["continuous"])):
        return {}
    listed = {each: fields[each] for each in ("on_push", "continuous") if fields[each]}
    return {"type": fields["type"], **listed}


def _account(settings: Mapping[str, Fields]) -> Document:
    told = {name: fields["value"] for name, fields in settings.items()}
    entry: Document = {}
    if "BLOB_MOUNTING" in told:
        entry["blob_mounting"] = told["BLOB_MOUNTING"] == "ENABLED"
    named = {"BASIC_SCAN_TYPE_VERSION": "basic_scan", "REGISTRY_POLICY_SCOPE": "registry_policy"}
    return entry | {field: told[name] for name, field in named.items() if name in told}


def _key(name: str, fields: Fields) -> Document:
    told = {"key": name, "enabled": fields["enabled"], "spec": fields["spec"], "usage": fields["usage"]}
    return told | ({"rotation": fields["rotation"]} if fields["spec"] == "SYMMETRIC_DEFAULT" else {})


def _topic(name: str, fields: Fields) -> Document:
    emails = sorted(each.removeprefix(alarms.EMAIL) for each in fields)
    return {"name": name, **({"emails": emails} if emails else {})}


def _interface(fields: Fields) -> Document:
    return {each: fields.get(each) for each in ("subnets", "security_groups", "private_dns")}


__all__ = ["Imported"]
