"""What is there of Google's settings, in the form in which they are declared.

Repositories and attestors are lists, asked by pages, once. What no list tells (who may read a repository, a note, a
key, a perimeter) is one call for each that is declared, and none for others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from registry_pipelines.errors import NotFound, RegistryPipelinesError
from registry_pipelines.infra.cloud import Found
from registry_pipelines.infra.gar import forms, kinds
from registry_pipelines.infra.gar.alarms import Alarms
from registry_pipelines.infra.gar.asking import PAGE, Asking, Json
from registry_pipelines.infra.settings import Plain, Setting, with_found

There = dict[str, dict[str, Plain]]
"""Fields by name, of one kind."""

POLICY_VERSION = 3
"""Of IAM policies: an older one leaves conditions out, and setting it back would lose them. Source: IAM's guide."""


def as_json(message: Any) -> Json:
    """A message of one of Google's clients as its JSON, enumerations by name."""
    from google.protobuf.json_format import MessageToDict

    raw = type(message).pb(message) if hasattr(type(message), "pb") else message
    found: Json = MessageToDict(raw)
    return found


class Reading:
    """Reads one registry; each list is asked once."""

    def __init__(self, place: str, asking: Asking) -> None:
        self._place, self._asking = place, asking
        self._policies: dict[str, Json] = {}
        """IAM policies of repositories that were read."""
        self._project: Json | RegistryPipelinesError = {}
        """That of the project, or why it could not be read."""
        self._alarms = Alarms(asking)

    def read(self, declared: Sequence[Setting], *, everything: bool = False) -> Found:
        """See :class:`~registry_pipelines.infra.cloud.SettingsCloud`. everything: what an import takes. Raises
        RegistryError for the list of repositories; another kind that cannot be read is unread."""
        self._policies.clear()
        self._alarms = Alarms(self._asking)
        self._project = {}
        settings: list[Setting] = []
        notes: list[str] = []
        repositories = self._repositories()
        by_kind = {kind: [each for each in declared if each.kind == kind] for kind in kinds.ORDER}
        if by_kind[kinds.READERS] or by_kind[kinds.PROJECT_READERS] or everything:
            self._ask_project()
        virtual = {name: each for name, each in repositories.items() if each["mode"] == "VIRTUAL_REPOSITORY"}
        settings += self._joined(kinds.REPOSITORY, by_kind[kinds.REPOSITORY], repositories, hide=virtual)
        settings += self._joined(kinds.VIRTUAL, by_kind[kinds.VIRTUAL], repositories, only=virtual)
        for kind in kinds.ORDER:
            own = by_kind[kind]
            if kind in (kinds.REPOSITORY, kinds.VIRTUAL) or not (own or (everything and kind in _IMPORTED)):
                continue
            try:
                there = self._there(kind, own, repositories, everything)
            except RegistryPipelinesError as error:
                settings += [with_found(each, None, unread=str(error)) for each in own]
                notes += [] if own else [f"{kind} was not read, so what is there is not named: {error}"]
                continue
            settings += self._joined(kind, own, there)
        notes += self._unasked(by_kind)
        return Found(settings=tuple(settings), notes=tuple(notes), readers=tuple(self._rows()))

    def _unasked(self, by_kind: Mapping[str, Sequence[Setting]]) -> Iterator[str]:
        if by_kind[kinds.READERS] or by_kind[kinds.PROJECT_READERS]:
            yield "readers that folders or the organization give are not listed: IAM tells a project's own alone"
            if isinstance(self._project, RegistryPipelinesError):
                yield "the project's own policy could not be read, so readers by it are not listed"

    def _joined(
        self,
        kind: str,
        own: Sequence[Setting],
        there: Mapping[str, Mapping[str, Plain]],
        *,
        hide: Iterable[str] = (),
        only: Iterable[str] | None = None,
    ) -> Iterator[Setting]:
        """Declared things with what was found of them, then what nobody declared. A repository that is there in
        another mode than declared is found all the same: its mode is a difference."""
        named = {each.name for each in own}
        for each in own:
            fields = there.get(each.name)
            if fields is not None and "?" in fields:
                yield with_found(each, None, unread=str(fields["?"]))
            else:
                yield with_found(each, fields)
        for name, fields in there.items():
            shown = name not in set(hide) and (only is None or name in set(only))
            if name not in named and shown and "?" not in fields and fields not in _UNTOUCHED.get(kind, ()):
                yield Setting(kind=kind, place=self._place, name=name, found=dict(fields))

    def _there(self, kind: str, own: Sequence[Setting], repositories: There, everything: bool) -> There:
        names = [each.name for each in own]
        match kind:
            case kinds.READERS:
                asked = list(repositories) if everything else [each for each in names if each in repositories]
                return self._each(asked, self._readers)
            case kinds.PROJECT_READERS:
                if isinstance(self._project, RegistryPipelinesError):
                    raise self._project
                members = forms.bindings(self._project, kinds.READER)
                return {self._asking.project: {f"{kinds.MEMBER}{each}": True for each in members}}
            case kinds.ATTESTOR:
                return self._attestors()
            case kinds.POLICY:
                return {self._asking.project: forms.policy_fields(self.binauthz_policy())}
            case kinds.NOTE:
                return self._each(names, self._note)
            case kinds.KEY:
                return self._each(names, self._key)
            case kinds.CHANNEL:
                return self._alarms.found_channels()
            case kinds.ALERT:
                return self._alarms.found_policies(own)
            case _:
                return self._each(names, self._perimeter)

    def _each(self, names: Sequence[str], ask: Callable[[str], dict[str, Plain] | None]) -> There:
        found: There = {}
        for name, answer in zip(names, self._asking.each(names, ask), strict=True):
            if isinstance(answer, NotFound) or answer is None:
                continue
            found[name] = {"?": str(answer)} if isinstance(answer, RegistryPipelinesError) else answer
        return found

    def _repositories(self) -> There:
        from google.cloud.artifactregistry_v1 import ArtifactRegistryClient

        client = self._asking.client(ArtifactRegistryClient)
        request = {"parent": self._asking.parent, "page_size": PAGE}
        listed = self._asking.pages("listing repositories", client.list_repositories, request, "repositories")
        found = {}
        for each in listed:
            document = as_json(each)
            found[str(document["name"]).rpartition("/")[2]] = forms.repository_fields(document)
        return found

    def _readers(self, repository: str) -> dict[str, Plain]:
        self._policies[repository] = policy = self.repository_policy(repository)
        return {"members": forms.bindings(policy, kinds.READER)}

    def take_policy(self, repository: str) -> Json:
        """The policy that was read for the plan, once: it is set over the state that it was read from, or not at all.
        Afterwards, and where none was read, it is asked for."""
        return self._policies.pop(repository, None) or self.repository_policy(repository)

    def repository_policy(self, repository: str) -> Json:
        """The IAM policy of a repository, conditions and etag too."""
        from google.cloud.artifactregistry_v1 import ArtifactRegistryClient

        client = self._asking.client(ArtifactRegistryClient)
        name = f"{self._asking.parent}/repositories/{repository}"
        request = {"resource": name, "options": {"requested_policy_version": POLICY_VERSION}}
        return as_json(self._asking.ask("reading who may read", client.get_iam_policy, request, where=name))

    def project_policy(self) -> Json:
        """The IAM policy of the project."""
        name = f"projects/{self._asking.project}"
        body = {"options": {"requestedPolicyVersion": POLICY_VERSION}}
        path = f"/v3/{name}:getIamPolicy"
        doing = "reading the project's policy"
        right = "resourcemanager.projects.getIamPolicy"
        host = "cloudresourcemanager"
        return self._asking.rest("POST", host, path, body=body, doing=doing, where=name, permission=right)

    def _ask_project(self) -> None:
        """Once for all that it is needed for: who may read a repository may do so by it."""
        try:
            self._project = self.project_policy()
        except RegistryPipelinesError as error:
            self._project = error

    def _rows(self) -> Iterator[dict[str, str]]:
        for repository, policy in sorted(self._policies.items()):
            yield from forms.reader_rows(policy, repository, f"repository {repository}")
        if not isinstance(self._project, RegistryPipelinesError):
            yield from forms.reader_rows(self._project, "*", f"project {self._asking.project}")

    def binauthz_policy(self) -> Json:
        """The project's policy of Binary Authorization."""
        from google.cloud.binaryauthorization_v1 import BinauthzManagementServiceV1Client

        client = self._asking.client(BinauthzManagementServiceV1Client)
        name = f"projects/{self._asking.project}/policy"
        doing = "reading the policy of Binary Authorization"
        right = "binaryauthorization.policy.get"
        return as_json(self._asking.ask(doing, client.get_policy, {"name": name}, where=name, permission=right))

    def _attestors(self) -> There:
        from google.cloud.binaryauthorization_v1 import BinauthzManagementServiceV1Client

        client = self._asking.client(BinauthzManagementServiceV1Client)
        request = {"parent": f"projects/{self._asking.project}", "page_size": PAGE}
        listed = self._asking.pages("listing attestors", client.list_attestors, request, "attestors")
        documents = [as_json(each) for each in listed]
        return {str(each["name"]).rpartition("/")[2]: forms.attestor_fields(each) for each in documents}

    def _note(self, name: str) -> dict[str, Plain]:
        from grafeas.grafeas_v1 import GrafeasClient

        whole = f"projects/{self._asking.project}/notes/{name}"
        client = self._asking.client(GrafeasClient)
        right = "containeranalysis.notes.get"
        asked = self._asking.ask("reading a note", client.get_note, {"name": whole}, where=whole, permission=right)
        note = as_json(asked)
        return {
            "kind": note.get("kind", ""),
            "hint": note.get("attestation", {}).get("hint", {}).get("humanReadableName", ""),
        }

    def _key(self, name: str) -> dict[str, Plain]:
        from google.cloud.kms_v1 import KeyManagementServiceClient

        client = self._asking.client(KeyManagementServiceClient)
        right = "cloudkms.cryptoKeys.get"
        asked = self._asking.ask("reading a key", client.get_crypto_key, {"name": name}, where=name, permission=right)
        key = as_json(asked)
        version = key.get("primary")
        if version is None:  # asymmetric keys have none: what signs is the version that is named
            method = client.list_crypto_key_versions
            listed = self._asking.pages("listing versions", method, {"parent": name}, "crypto_key_versions")
            version = next((each for each in map(as_json, listed) if each.get("state") == "ENABLED"), {})
        template = key.get("versionTemplate", {})
        return {
            "purpose": key.get("purpose", ""),
            "algorithm": template.get("algorithm") or version.get("algorithm", ""),
            "protection": template.get("protectionLevel") or version.get("protectionLevel", ""),
            "enabled": version.get("state") == "ENABLED",
        }

    def perimeter(self, name: str) -> Json:
        """A perimeter as it is."""
        doing = "reading a perimeter"
        right, host = "accesscontextmanager.servicePerimeters.get", "accesscontextmanager"
        return self._asking.rest("GET", host, f"/v1/{name}", doing=doing, where=name, permission=right)

    def _perimeter(self, name: str) -> dict[str, Plain]:
        return forms.perimeter_fields(self.perimeter(name))


_IMPORTED = (kinds.READERS, kinds.PROJECT_READERS, kinds.ATTESTOR, kinds.POLICY, kinds.CHANNEL, kinds.ALERT)
"""Kinds that an import asks for though nobody declared them."""
_UNTOUCHED: dict[str, tuple[dict[str, Plain], ...]] = {
    kinds.READERS: ({"members": []},),
    kinds.PROJECT_READERS: ({},),
}
"""What is there where nobody ever set anything: no finding."""
