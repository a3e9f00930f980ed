"""google.cloud.binaryauthorization.v1: the policy of a project, its attestors, and whether an attestation holds."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.cloud import binaryauthorization_v1 as api
from google.cloud.binaryauthorization_v1.services.binauthz_management_service_v1.transports import rest_base
from google.cloud.binaryauthorization_v1.services.binauthz_management_service_v1.transports.grpc import (
    BinauthzManagementServiceV1GrpcTransport,
)
from google.cloud.binaryauthorization_v1.services.validation_helper_v1.transports import rest_base as validation_rest
from google.cloud.binaryauthorization_v1.services.validation_helper_v1.transports.grpc import (
    ValidationHelperV1GrpcTransport,
)
from google.protobuf.empty_pb2 import Empty

from tests.doubles.google.contract import read_methods
from tests.doubles.google.doors import Service
from tests.doubles.google.services import iam_policy
from tests.doubles.google.world import Refusal, World, page

_ECDSA = {
    api.PkixPublicKey.SignatureAlgorithm.ECDSA_P256_SHA256: hashes.SHA256(),
    api.PkixPublicKey.SignatureAlgorithm.ECDSA_P384_SHA384: hashes.SHA384(),
}


@dataclass
class Authorization:
    """Policies by project, attestors by resource name."""

    policies: dict[str, api.Policy] = field(default_factory=dict)
    attestors: dict[str, api.Attestor] = field(default_factory=dict)


def _policy(world: World, name: str) -> api.Policy:
    """Every project has one, which allows all until it is changed."""
    state = world.state(Authorization)
    rule = api.AdmissionRule(
        evaluation_mode=api.AdmissionRule.EvaluationMode.ALWAYS_ALLOW,
        enforcement_mode=api.AdmissionRule.EnforcementMode.ENFORCED_BLOCK_AND_AUDIT_LOG,
    )
    return state.policies.setdefault(name, _stamped(world, api.Policy(name=name, default_admission_rule=rule)))


def _stamped(world: World, message: Any) -> Any:
    message.update_time = world.now()
    message.etag = hashlib.sha256(type(message).serialize(message)).hexdigest()[:16]
    return message


def get_policy(world: World, request: api.GetPolicyRequest) -> api.Policy:
    return _policy(world, request.name)


def update_policy(world: World, request: api.UpdatePolicyRequest) -> api.Policy:
    current = _policy(world, request.policy.name)
    if request.policy.etag and request.policy.etag != current.etag:
        raise Refusal("ABORTED", "etag: the policy was changed by somebody else")
    rules = [request.policy.default_admission_rule, *request.policy.cluster_admission_rules.values()]
    if not rules[0].evaluation_mode:
        raise Refusal("INVALID_ARGUMENT", "policy.default_admission_rule: required")
    for rule in rules:
        needs = rule.evaluation_mode == api.AdmissionRule.EvaluationMode.REQUIRE_ATTESTATION
        if needs != bool(rule.require_attestations_by):
            raise Refusal("INVALID_ARGUMENT", "require_attestations_by: with REQUIRE_ATTESTATION, and only with it")
        if missing := set(rule.require_attestations_by) - set(world.state(Authorization).attestors):
            raise Refusal("FAILED_PRECONDITION", f"attestors not found: {', '.join(sorted(missing))}")
    made = api.Policy.deserialize(api.Policy.serialize(request.policy))
    world.state(Authorization).policies[made.name] = _stamped(world, made)
    return made


def create_attestor(world: World, request: api.CreateAttestorRequest) -> api.Attestor:
    state = world.state(Authorization)
    name = f"{request.parent}/attestors/{request.attestor_id}"
    if name in state.attestors:
        raise Refusal("ALREADY_EXISTS", f"attestor {name} already exists")
    made = api.Attestor.deserialize(api.Attestor.serialize(request.attestor))
    made.name = name
    state.attestors[name] = _checked(world, made)
    return made


def _checked(world: World, attestor: api.Attestor) -> api.Attestor:
    note = attestor.user_owned_grafeas_note
    if not note.note_reference:
        raise Refusal("INVALID_ARGUMENT", "attestor.user_owned_grafeas_note.note_reference: required")
    for key in note.public_keys:
        der = _public(key).public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        # A documented default for keys without an id of their own: ni:///sha-256;<base64url of the digest>
        key.id = key.id or _default_id(der)
    note.delegation_service_account_email = "service-1@gcp-sa-binaryauthorization.iam.gserviceaccount.com"
    stamped: api.Attestor = _stamped(world, attestor)
    return stamped


def _default_id(der: bytes) -> str:
    return f"ni:///sha-256;{base64.urlsafe_b64encode(hashlib.sha256(der).digest()).decode().rstrip('=')}"


def _public(key: api.AttestorPublicKey) -> Any:
    try:
        return serialization.load_pem_public_key(key.pkix_public_key.public_key_pem.encode())
    except ValueError as error:
        raise Refusal("INVALID_ARGUMENT", f"public_key_pem: {error}") from None


def get_attestor(world: World, request: api.GetAttestorRequest) -> api.Attestor:
    return _attestor(world, request.name)


def _attestor(world: World, name: str) -> api.Attestor:
    if name not in world.state(Authorization).attestors:
        raise Refusal("NOT_FOUND", f"attestor {name} not found")
    return world.state(Authorization).attestors[name]


def update_attestor(world: World, request: api.UpdateAttestorRequest) -> api.Attestor:
    _attestor(world, request.attestor.name)
    made = api.Attestor.deserialize(api.Attestor.serialize(request.attestor))
    world.state(Authorization).attestors[made.name] = _checked(world, made)
    return made


def delete_attestor(world: World, request: api.DeleteAttestorRequest) -> Empty:
    _attestor(world, request.name)
    del world.state(Authorization).attestors[request.name]
    return Empty()


def list_attestors(world: World, request: api.ListAttestorsRequest) -> api.ListAttestorsResponse:
    kept = world.state(Authorization).attestors
    found = [kept[name] for name in sorted(kept) if name.startswith(request.parent + "/")]
    part, after = page(found, request.page_size, request.page_token)
    return api.ListAttestorsResponse(attestors=part, next_page_token=after)


def validate(
    world: World, request: api.ValidateAttestationOccurrenceRequest
) -> api.ValidateAttestationOccurrenceResponse:
    """The signature is by a key of the attestor, over a payload that names the digest of the resource."""
    attestor = _attestor(world, request.attestor)
    result = api.ValidateAttestationOccurrenceResponse.Result
    why = ""
    if attestor.user_owned_grafeas_note.note_reference != request.occurrence_note:
        why = "the occurrence is not of the attestor's note"
    digest = request.occurrence_resource_uri.rpartition("@")[2].encode()
    if not why and digest not in request.attestation.serialized_payload:
        why = "the payload does not name the resource's digest"
    keys = {key.id: key for key in attestor.user_owned_grafeas_note.public_keys}
    if not why and not any(_signed(keys, request.attestation, each) for each in request.attestation.signatures):
        why = "no signature of the attestor's keys verifies"
    return api.ValidateAttestationOccurrenceResponse(
        result=result.ATTESTATION_NOT_VERIFIABLE if why else result.VERIFIED, denial_reason=why
    )


def _signed(keys: dict[str, api.AttestorPublicKey], attestation: Any, signature: Any) -> bool:
    key = keys.get(signature.public_key_id)
    algorithm = _ECDSA.get(key.pkix_public_key.signature_algorithm) if key is not None else None
    if key is None or algorithm is None:
        return False
    try:
        _public(key).verify(signature.signature, attestation.serialized_payload, ec.ECDSA(algorithm))
    except InvalidSignature:
        return False
    return True


MANAGEMENT = Service(
    "binaryauthorization",
    read_methods(BinauthzManagementServiceV1GrpcTransport, rest_base._BaseBinauthzManagementServiceV1RestTransport),
    {
        "GetPolicy": get_policy,
        "UpdatePolicy": update_policy,
        "CreateAttestor": create_attestor,
        "GetAttestor": get_attestor,
        "UpdateAttestor": update_attestor,
        "DeleteAttestor": delete_attestor,
        "ListAttestors": list_attestors,
        **iam_policy.HANDLERS,
    },
    {
        "GetPolicy": "binaryauthorization.policy.get",
        "UpdatePolicy": "binaryauthorization.policy.update",
        "GetAttestor": "binaryauthorization.attestors.get",
        "CreateAttestor": "binaryauthorization.attestors.create",
    },
)
VALIDATION = Service(
    "validation",
    read_methods(ValidationHelperV1GrpcTransport, validation_rest._BaseValidationHelperV1RestTransport),
    {"ValidateAttestationOccurrence": validate, **iam_policy.HANDLERS},
    {"ValidateAttestationOccurrence": "binaryauthorization.attestors.verifyImageAttested"},
)
