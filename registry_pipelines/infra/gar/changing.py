"""Changes of Google's settings, one thing at a time; what a call sets as a whole keeps what nobody declared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from registry_pipelines.errors import Refused, RegistryPipelinesError
from registry_pipelines.infra.gar import forms, kinds
from registry_pipelines.infra.gar.alarms import Alarms
from registry_pipelines.infra.gar.asking import Asking, Json
from registry_pipelines.infra.gar.reading import Reading, as_json
from registry_pipelines.infra.plan import Change, Outcome, done, failed
from registry_pipelines.infra.settings import Fields

_ALGORITHMS = {
    "EC_SIGN_P256_SHA256": "ECDSA_P256_SHA256",
    "EC_SIGN_P384_SHA384": "ECDSA_P384_SHA384",
    "RSA_SIGN_PSS_2048_SHA256": "RSA_PSS_2048_SHA256",
    "RSA_SIGN_PSS_3072_SHA256": "RSA_PSS_3072_SHA256",
    "RSA_SIGN_PSS_4096_SHA256": "RSA_PSS_4096_SHA256",
    "RSA_SIGN_PSS_4096_SHA512": "RSA_PSS_4096_SHA512",
    "RSA_SIGN_PKCS1_2048_SHA256": "RSA_SIGN_PKCS1_2048_SHA256",
    "RSA_SIGN_PKCS1_3072_SHA256": "RSA_SIGN_PKCS1_3072_SHA256",
    "RSA_SIGN_PKCS1_4096_SHA256": "RSA_SIGN_PKCS1_4096_SHA256",
    "RSA_SIGN_PKCS1_4096_SHA512": "RSA_SIGN_PKCS1_4096_SHA512",
}
"""Cloud KMS's names of algorithms, and Binary Authorization's for the same. Source: the types of both clients."""

_EMPTY_IT = "Delete them first, or write `force: true` beside `absent`"


class Changing:
    """Changes one registry."""

    def __init__(self, asking: Asking, reading: Reading) -> None:
        self._asking, self._reading, self._once = asking, reading, asking.once()
        self._acts: dict[str, Callable[[Change], object]] = {
            kinds.REPOSITORY: self._repository,
            kinds.VIRTUAL: self._repository,
            kinds.READERS: self._readers,
            kinds.PROJECT_READERS: self._project_readers,
            kinds.NOTE: self._note,
            kinds.ATTESTOR: self._attestor,
            kinds.POLICY: self._policy,
            kinds.PERIMETER: self._perimeter,
            kinds.CHANNEL: Alarms(asking).change_channel,
            kinds.ALERT: Alarms(asking).change_policy,
        }

    def apply(self, changes: Sequence[Change]) -> Iterator[Outcome]:
        """Each change by itself, several at once; an error of one stops no other."""
        act = self._acts[changes[0].kind]
        for change, answer in zip(changes, self._asking.each(changes, act), strict=True):
            yield failed(change, answer) if isinstance(answer, RegistryPipelinesError) else done(change)

    def _repository(self, change: Change) -> None:
        from google.cloud.artifactregistry_v1 import ArtifactRegistryClient

        client = self._asking.client(ArtifactRegistryClient)
        name = f"{self._asking.parent}/repositories/{change.name}"
        if change.action == "delete":
            self._delete(client, change, name)
            return
        wanted = change.wanted or {}
        if change.action == "create":
            request = {"parent": self._asking.parent, "repository_id": change.name}
            request["repository"] = _message(forms.repository_document(wanted))
            doing = "making a repository"
            made = self._asking.ask(doing, client.create_repository, request, where=name)
            self._asking.finished(doing, made, client, where=name)
            return
        changed = [each.field for each in change.differences]
        document = {"name": name, **forms.repository_document(_whole(change, wanted, changed))}
        changing: dict[str, Any] = {"repository": _message(document), "update_mask": {"paths": forms.mask(changed)}}
        self._asking.ask("changing a repository", client.update_repository, changing, where=name)

    def _delete(self, client: Any, change: Change, name: str) -> None:
        """Google deletes a repository with all that it has, without a question: the question is asked here. Its size
        is that of another moment, so an empty one is asked for its packages, too."""
        doing = "deleting a repository"
        if not (change.wanted or {}).get("force"):
            asked = self._asking.ask("reading a repository", client.get_repository, {"name": name}, where=name)
            there = as_json(asked)
            if int(there.get("sizeBytes", 0)):
                why = f"it holds {there['sizeBytes']} bytes, and Google would delete them with it"
                raise Refused(why, where=name, do=_EMPTY_IT)
            listed = self._asking.ask(
                "listing packages", client.list_packages, {"parent": name, "page_size": 1}, where=name
            )
            if packages := list(listed.packages):
                why = f"it holds {packages[0].name.rpartition('/')[2]}, and Google would delete that with it"
                raise Refused(why, where=name, do=_EMPTY_IT)
        deleted = self._asking.ask(doing, client.delete_repository, {"name": name}, where=name)
        self._asking.finished(doing, deleted, client, where=name)

    def _readers(self, change: Change) -> None:
        from google.cloud.artifactregistry_v1 import ArtifactRegistryClient
        from google.iam.v1.policy_pb2 import Policy
        from google.protobuf.json_format import ParseDict

        client = self._asking.client(ArtifactRegistryClient)
        name = f"{self._asking.parent}/repositories/{change.name}"
        members = list((change.wanted or {})["members"])

        def set_once() -> None:
            policy = forms.with_members(self._reading.take_policy(change.name), kinds.READER, members)
            request = {"resource": name, "policy": ParseDict({**policy, "version": 3}, Policy())}
            self._once.ask("setting who may read", client.set_iam_policy, request, where=name)

        self._asking.again(set_once)

    def _project_readers(self, change: Change) -> None:
        name = f"projects/{self._asking.project}"
        doing = "setting who may read in the project"
        added = {each.removeprefix(kinds.MEMBER) for each in change.wanted or {}}

        def set_once() -> None:
            policy = self._reading.project_policy()
            members = sorted(added | set(forms.bindings(policy, kinds.READER)))
            body = {"policy": {**forms.with_members(policy, kinds.READER, members), "version": 3}}
            path = f"/v3/{name}:setIamPolicy"
            right, host = "resourcemanager.projects.setIamPolicy", "cloudresourcemanager"
            self._once.rest("POST", host, path, body=body, doing=doing, where=name, permission=right)

        self._asking.again(set_once)

    def _note(self, change: Change) -> None:
        from grafeas.grafeas_v1 import GrafeasClient, Note

        client = self._asking.client(GrafeasClient)
        parent = f"projects/{self._asking.project}"
        name = f"{parent}/notes/{change.name}"
        hint = (change.wanted or {})["hint"]
        note = Note(attestation={"hint": {"human_readable_name": hint}})
        if change.action == "create":
            request = {"parent": parent, "note_id": change.name, "note": note}
            right = "containeranalysis.notes.create"
            self._asking.ask("making a note", client.create_note, request, where=name, permission=right)
            return
        request = {"name": name, "note": note, "update_mask": {"paths": ["attestation.hint.human_readable_name"]}}
        right = "containeranalysis.notes.update"
        self._asking.ask("changing a note", client.update_note, request, where=name, permission=right)

    def _attestor(self, change: Change) -> None:
        from google.cloud.binaryauthorization_v1 import Attestor, BinauthzManagementServiceV1Client

        client = self._asking.client(BinauthzManagementServiceV1Client)
        parent = f"projects/{self._asking.project}"
        name = f"{parent}/attestors/{change.name}"
        fields = {**(change.found or {}), **(change.wanted or {})}
        keys = [self._public_key(each) for each in fields["keys"]]
        note = {"note_reference": fields["note"], "public_keys": keys}
        made = Attestor(name=name, description=fields.get("description", ""), user_owned_grafeas_note=note)
        if change.action == "create":
            request = {"parent": parent, "attestor_id": change.name, "attestor": made}
            right = "binaryauthorization.attestors.create"
            self._asking.ask("making an attestor", client.create_attestor, request, where=name, permission=right)
            return
        right = "binaryauthorization.attestors.update"
        asked = {"attestor": made}
        self._asking.ask("changing an attestor", client.update_attestor, asked, where=name, permission=right)

    def _public_key(self, key: str) -> dict[str, Any]:
        """A key as an attestor has it; its public half comes from Cloud KMS, which has the version by the same name."""
        from google.cloud.kms_v1 import KeyManagementServiceClient

        version = key.removeprefix(forms.key_id(""))
        client = self._asking.client(KeyManagementServiceClient)
        doing = "reading a public key"
        right = "cloudkms.cryptoKeyVersions.viewPublicKey"
        asked = {"name": version}
        public = self._asking.ask(doing, client.get_public_key, asked, where=version, permission=right)
        algorithm = _ALGORITHMS.get(public.algorithm.name)
        if algorithm is None:
            do = "Take an asymmetric key that signs with SHA-256, SHA-384 or SHA-512"
            raise Refused(f"Binary Authorization has no keys of the kind {public.algorithm.name}", where=version, do=do)
        return {"id": key, "pkix_public_key": {"public_key_pem": public.pem, "signature_algorithm": algorithm}}

    def _policy(self, change: Change) -> None:
        from google.cloud.binaryauthorization_v1 import BinauthzManagementServiceV1Client, Policy
        from google.protobuf.json_format import ParseDict

        client = self._asking.client(BinauthzManagementServiceV1Client)
        where = f"projects/{self._asking.project}/policy"

        def set_once() -> None:
            document = forms.policy_document(self._reading.binauthz_policy(), change.wanted or {})
            document.pop("updateTime", None)
            policy = Policy()
            ParseDict(document, Policy.pb(policy))
            doing = "setting the policy of Binary Authorization"
            right = "binaryauthorization.policy.update"
            self._once.ask(doing, client.update_policy, {"policy": policy}, where=where, permission=right)

        self._asking.again(set_once)

    def _perimeter(self, change: Change) -> None:
        doing, host = "changing a perimeter", "accesscontextmanager"
        path = f"/v1/{change.name}?updateMask=status.resources,status.restrictedServices"
        right = "accesscontextmanager.servicePerimeters.update"

        def set_once() -> None:
            there = self._reading.perimeter(change.name)
            status = forms.perimeter_document(there, change.wanted or {})
            body: Json = {"status": status, **({"etag": there["etag"]} if "etag" in there else {})}
            started = self._once.rest("PATCH", host, path, body=body, doing=doing, where=change.name, permission=right)
            self._asking.wait_rest(host, started, doing=doing, where=change.name)

        self._asking.again(set_once)


def _whole(change: Change, wanted: Fields, changed: Sequence[str]) -> Mapping[str, Any]:
    """Wanted fields, with those of the same group that are there and undeclared: a mask changes the group whole."""
    groups = {each.partition(".")[0] for each in changed}
    kept = {name: each for name, each in (change.found or {}).items() if name.partition(".")[0] in groups}
    return {**kept, **wanted}


def _message(document: Mapping[str, Any]) -> Any:
    from google.cloud.artifactregistry_v1 import Repository
    from google.protobuf.json_format import ParseDict

    message = Repository()
    ParseDict(dict(document), Repository.pb(message))
    return message
