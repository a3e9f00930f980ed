"""Attestations of Binary Authorization: occurrences in Artifact Analysis by which GKE and Cloud Run let an image start.

A payload names the image and its digest; an attestor's key signs it, and whoever reads it knows the attestor's public
keys. Sources: Binary Authorization, "Create attestations" and "Multi-project setup"; grafeas, ``attestation.proto``.
The payload is cosign's simple signing but for its ``type``, which is compared exactly: one must not pass as the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from registry_pipelines.errors import EvidenceMissing, InputError, NotFound, SignatureInvalid
from registry_pipelines.evidence.dsse import decode_unverified
from registry_pipelines.evidence.model import Rejected, Signer
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.gar.calls import GoogleCalls

TYPE = "Google cloud binauthz container signature"
TYPES = frozenset({TYPE, "Google Cloud BinAuthz container signature"})
"""What payloads say they are; newer pages of Google's write it the second way."""
MAX_OCCURRENCES = 1000
"""Attestations of one note about one image that are looked at."""


class _Image(msgspec.Struct, rename="kebab"):
    docker_manifest_digest: str


class _Identity(msgspec.Struct, rename="kebab"):
    docker_reference: str


class _Critical(msgspec.Struct):
    identity: _Identity
    image: _Image
    type: str


class _Payload(msgspec.Struct):
    critical: _Critical


@dataclass(frozen=True)
class AttestorKeys:
    """What an attestor trusts: its note, and public keys (PEM) by their id."""

    note: str
    keys: Mapping[str, str]


@dataclass(frozen=True)
class Attested:
    """An attestation that is there now. changed: False: one by the same key was there, and nothing was written."""

    name: str
    key_id: str
    changed: bool


def payload_of(reference: str, digest: Digest) -> bytes:
    """What is signed about an image. reference: ``host/path``, without tag."""
    image, identity = {"docker-manifest-digest": str(digest)}, {"docker-reference": reference}
    return json.dumps(
        {"critical": {"identity": identity, "image": image, "type": TYPE}}, separators=(",", ":")
    ).encode()


def check_payload(raw: bytes, reference: str, digest: Digest) -> None:
    """Raise SignatureInvalid unless a payload is about exactly this image, and is one of Binary Authorization."""
    told = decode_unverified(raw, _Payload, where=reference, what="payload of an attestation").critical
    if told.type not in TYPES:
        raise SignatureInvalid(f"the payload is {told.type[:100]!r}, and no attestation of Binary Authorization")
    if told.image.docker_manifest_digest != digest:
        raise SignatureInvalid(f"the payload is about {told.image.docker_manifest_digest[:100]}, not {digest}")
    if told.identity.docker_reference != reference:
        raise SignatureInvalid(f"the payload is about {told.identity.docker_reference[:200]!r}, not {reference}")


class BinaryAuthorization:
    """One attestor. attestor: ``projects/P/attestors/NAME``. Methods raise the RegistryError family, ToolMissing.

    reference, everywhere: ``host/path`` of the image as clusters pull it.
    """

    def __init__(self, calls: GoogleCalls, attestor: str) -> None:
        self._calls, self._attestor = calls, attestor
        self._known: AttestorKeys | None = None

    def keys(self) -> AttestorKeys:
        """Asked once. Raises InputError for an attestor without a note of its user's."""
        if self._known is None:
            from google.cloud.binaryauthorization_v1 import BinauthzManagementServiceV1Client

            client = self._calls.client(BinauthzManagementServiceV1Client)
            found = self._calls.call(
                client.get_attestor,
                {"name": self._attestor},
                where=self._attestor,
                doing="reading the attestor",
                permission="binaryauthorization.attestors.get",
            )
            note = found.user_owned_grafeas_note
            if not note.note_reference:
                raise InputError("the attestor has no note", where=self._attestor, do="Give it one, with its keys")
            pems = {key.id: key.pkix_public_key.public_key_pem for key in note.public_keys if key.pkix_public_key}
            self._known = AttestorKeys(note.note_reference, pems)
        return self._known

    def attest(self, reference: str, digest: Digest, signer: Signer) -> Attested:
        """Sign and write an attestation, unless one by this key is there. Google is asked whether it holds before it
        counts as made. Raises InputError for a key that is none of the attestor's, SignatureInvalid."""
        known, key_id = self.keys(), self._id_of(signer)
        for occurrence in self._occurrences(reference, digest):
            if not self._against(occurrence, reference, digest, only=key_id):
                return Attested(occurrence.name, key_id, changed=False)
        payload = payload_of(reference, digest)
        signed = {
            "serialized_payload": payload,
            "signatures": [{"signature": signer.sign(payload), "public_key_id": key_id}],
        }
        self._validate(signed, reference, digest)
        made = self._calls.call(
            self._grafeas().create_occurrence,
            {
                "parent": "/".join(known.note.split("/")[:2]),
                "occurrence": {
                    "resource_uri": _resource(reference, digest),
                    "note_name": known.note,
                    "attestation": signed,
                },
            },
            where=_resource(reference, digest),
            doing="writing an attestation",
            permission="containeranalysis.occurrences.create",
        )
        return Attested(made.name, key_id, changed=True)

    def verify(self, reference: str, digest: Digest) -> tuple[list[str], list[Rejected]]:
        """Names of the attestations that hold, by our own check and by Google's, and those that do not. Raises
        EvidenceMissing (there is none), SignatureInvalid (none holds, and every reason is given)."""
        believed: list[str] = []
        rejected: list[Rejected] = []
        for occurrence in self._occurrences(reference, digest):
            if problem := self._against(occurrence, reference, digest):
                rejected.append(Rejected(occurrence.name, problem))
            else:
                believed.append(occurrence.name)
        where = _resource(reference, digest)
        if not believed and not rejected:
            raise EvidenceMissing(f"{self._attestor} has not attested the image", where=where, do="Judge the release")
        if not believed:
            raise SignatureInvalid(
                f"no attestation of {self._attestor} holds: {'; '.join(map(str, rejected[:10]))}", where=where
            )
        return believed, rejected

    def withdraw(self, reference: str, digest: Digest) -> list[str]:
        """Delete all attestations of the attestor about an image: no cluster lets it start by them any more. The names
        of what was deleted."""
        names = [occurrence.name for occurrence in self._occurrences(reference, digest)]
        for name in names:
            try:
                self._calls.call(
                    self._grafeas().delete_occurrence,
                    {"name": name},
                    where=name,
                    doing="deleting an attestation",
                    permission="containeranalysis.occurrences.delete",
                )
            except NotFound:
                continue
        return names

    def _grafeas(self) -> Any:
        from grafeas.grafeas_v1 import GrafeasClient

        return self._calls.client(GrafeasClient)

    def _occurrences(self, reference: str, digest: Digest) -> Iterator[Any]:
        where = _resource(reference, digest)
        request = {"name": self.keys().note, "filter": f'resourceUrl="{where}"', "page_size": 100}
        listed = self._calls.pages(
            self._grafeas().list_note_occurrences, request, "occurrences", where=where, doing="reading attestations"
        )
        for number, occurrence in enumerate(listed):
            if number >= MAX_OCCURRENCES:
                return
            if occurrence.resource_uri == where:
                yield occurrence

    def _against(self, occurrence: Any, reference: str, digest: Digest, *, only: str = "") -> str:
        """Why an attestation does not hold; empty when it does. only: a signature by this key counts."""
        attestation = occurrence.attestation
        payload = bytes(attestation.serialized_payload)
        try:
            check_payload(payload, reference, digest)
        except SignatureInvalid as error:
            return error.what
        if not any(
            self._is_by_key(bytes(each.signature), each.public_key_id, payload)
            for each in attestation.signatures
            if not only or each.public_key_id == only
        ):
            return "no key of the attestor made its signature"
        try:
            signatures = [
                {"signature": bytes(each.signature), "public_key_id": each.public_key_id}
                for each in attestation.signatures
            ]
            self._validate({"serialized_payload": payload, "signatures": signatures}, reference, digest)
        except SignatureInvalid as error:
            return error.what
        return ""

    def _is_by_key(self, signature: bytes, key_id: str, payload: bytes) -> bool:
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        try:
            key = serialization.load_pem_public_key(self.keys().keys.get(key_id, "").encode())
            if not isinstance(key, ec.EllipticCurvePublicKey):
                return False  # Google's check would have to decide alone
            hashed = {256: hashes.SHA256(), 384: hashes.SHA384()}.get(key.key_size, hashes.SHA512())
            key.verify(signature, payload, ec.ECDSA(hashed))
        except (ValueError, UnsupportedAlgorithm, InvalidSignature):
            return False
        return True

    def _id_of(self, signer: Signer) -> str:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

        form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        own = load_pem_public_key(signer.public_key_pem).public_bytes(*form)
        for key_id, pem in self.keys().keys.items():
            try:
                if load_pem_public_key(pem.encode()).public_bytes(*form) == own:
                    return key_id
            except (ValueError, UnsupportedAlgorithm):
                continue
        raise InputError(
            f"the signing key {signer.key_id[:19]} is none of the attestor's",
            where=self._attestor,
            do="Add its public half to the attestor: gcloud container binauthz attestors public-keys add",
        )

    def _validate(self, attestation: Mapping[str, Any], reference: str, digest: Digest) -> None:
        """Google's own check. Raises SignatureInvalid with its reason."""
        from google.cloud.binaryauthorization_v1 import (
            ValidateAttestationOccurrenceResponse,
            ValidationHelperV1Client,
        )

        where = _resource(reference, digest)
        request = {
            "attestor": self._attestor,
            "attestation": attestation,
            "occurrence_note": self.keys().note,
            "occurrence_resource_uri": where,
        }
        answer = self._calls.call(
            self._calls.client(ValidationHelperV1Client).validate_attestation_occurrence,
            request,
            where=where,
            doing="validating an attestation",
            permission="binaryauthorization.attestors.verifyImageAttested",
        )
        if answer.result != ValidateAttestationOccurrenceResponse.Result.VERIFIED:
            said = " ".join(answer.denial_reason.split())[:300]
            raise SignatureInvalid(
                f"Binary Authorization does not take it: {said or 'no reason is given'}", where=where
            )


def _resource(reference: str, digest: Digest) -> str:
    return f"https://{reference}@{digest}"
