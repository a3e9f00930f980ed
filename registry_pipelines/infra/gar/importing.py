"""What is there of an Artifact Registry, as it would be declared: the section of the configuration, and its files."""

from __future__ import annotations

import json
from collections.abc import Iterable

from registry_pipelines.infra.gar import alarms, forms, kinds
from registry_pipelines.infra.importing import Document, Importing
from registry_pipelines.infra.settings import Fields, Setting


class Imported(Importing):
    """See :class:`Importing`."""

    def __init__(self, place: str, settings: Iterable[Setting], *, folder: str = "") -> None:
        super().__init__(place, settings, folder=folder)
        sections: Document = {
            "repositories": self._repositories(),
            "readers": self._project_readers(),
            "attestors": dict(self._attestors()),
            "binary_authorization": self._policy(),
            "channels": self._channels(),
            "alarms": self._alarms(),
        }
        self.section = {"kind": "gar", **{name: value for name, value in sections.items() if value}}

    def _repositories(self) -> list[Document]:
        groups: dict[str, Document] = {}
        for name, fields in sorted({**self.of(kinds.REPOSITORY), **self.of(kinds.VIRTUAL)}.items()):
            entry = self._repository(name, fields)
            if readers := self.of(kinds.READERS).get(name):
                entry["readers"] = readers["members"]
            groups.setdefault(json.dumps(entry, sort_keys=True), {"names": [], **entry})["names"].append(name)
        return list(groups.values())

    def _repository(self, name: str, fields: Fields) -> Document:
        entry: Document = {"format": fields["format"]}
        entry |= {each: fields[each] for each in ("description", "kms_key") if fields[each]}
        if labels := _below(fields, kinds.LABEL):
            entry["labels"] = labels
        if "upstreams" in fields:
            entry["virtual"] = [dict(each) for each in fields["upstreams"].values()]
            return entry
        entry["scanning"] = fields["scanning"]
        if fields["cleanup"]:
            entry["cleanup"] = self.file("cleanup", name, forms.cleanup_file(fields["cleanup"]))
            entry["cleanup_dry_run"] = fields["cleanup_dry_run"]
        if fields["format"] == "MAVEN" and "maven.version_policy" in fields:
            entry["maven_versions"] = fields["maven.version_policy"]
            entry["maven_overwrites"] = fields["maven.snapshot_overwrites"]
        if "remote.upstream" in fields:
            remote = {each.partition(".")[2]: fields[each] for each in _REMOTE if fields[each]}
            if not remote.get("upstream"):
                self.notes.append(f"{name}: its upstream is of a kind that cannot be declared; it is left out")
            entry["remote"] = remote
        elif fields["format"] == "DOCKER":
            entry["immutable"] = fields["immutable_tags"]
        return entry

    def _project_readers(self) -> list[str]:
        found = self.of(kinds.PROJECT_READERS).values()
        return sorted(member for fields in found for member in _below(fields, kinds.MEMBER))

    def _attestors(self) -> Iterable[tuple[str, Document]]:
        for name, fields in self.of(kinds.ATTESTOR).items():
            versions = [each.removeprefix(forms.key_id("")) for each in fields["keys"]]
            if not versions or not all(each.startswith("projects/") for each in versions):
                self.notes.append(f"attestor {name} has keys that are not in Cloud KMS; it is left out")
                continue
            entry: Document = {"note": str(fields["note"]).rpartition("/")[2]}
            entry |= {"description": fields["description"]} if fields["description"] else {}
            yield name, {**entry, "keys": [{"kms": each} for each in versions]}

    def _channels(self) -> list[Document]:
        """Those that policies on our numbers tell, and others of the project not."""
        told = {each for fields in self.of(kinds.ALERT).values() for each in fields["channels"]}
        entries = []
        for name, fields in self.of(kinds.CHANNEL).items():
            entry = alarms.declared_channel(name, fields) if name in told else None
            entries += [entry] if entry else []
        return entries

    def _alarms(self) -> list[Document]:
        known = {each["name"] for each in self._channels()}
        entries = []
        for name, fields in self.of(kinds.ALERT).items():
            entry = alarms.declared_alert(name, fields, place=self._place)
            if entry is None or any("/" not in each and each not in known for each in fields["channels"]):
                self.notes.append(f"alert policy {name} watches something else, or otherwise; it is left out")
            else:
                entries.append(entry)
        return entries

    def _policy(self) -> Document:
        fields = next(iter(self.of(kinds.POLICY).values()), None)
        if fields is None:
            return {}
        entry: Document = {"default": _rule(fields["default"])}
        if clusters := _below(fields, kinds.CLUSTER):
            entry["clusters"] = {name: _rule(rule) for name, rule in clusters.items()}
        if fields["always_allowed"]:
            entry["always_allowed"] = fields["always_allowed"]
        return {**entry, "system_images": fields["system_images"]}


_REMOTE = ("remote.upstream", "remote.username", "remote.password_secret")


def _below(fields: Fields, beginning: str) -> Document:
    return {name.removeprefix(beginning): value for name, value in sorted(fields.items()) if name.startswith(beginning)}


def _rule(rule: Fields) -> Document:
    return {name: rule[name] for name in ("evaluation", "enforcement", "attestors") if rule[name]}


__all__ = ["Imported"]
