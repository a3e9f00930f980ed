"""DSSE envelopes, statements and bundles: exact bytes, strict reading, every fault our own error."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from registry_pipelines.errors import SignatureInvalid
from registry_pipelines.evidence.bounds import MAX_BUNDLE_BYTES, MAX_ENVELOPE_SIGNATURES, MAX_SUBJECTS
from registry_pipelines.evidence.bundles import read_bundle, write_bundle
from registry_pipelines.evidence.dsse import (
    Envelope,
    pae,
    read_envelope,
    sign_envelope,
    verify_envelope,
    write_envelope,
)
from registry_pipelines.evidence.statements import check_statement, read_statement, write_statement
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.media_types import IN_TOTO, SIGSTORE_BUNDLE
from registry_pipelines.sign.cosign import check_payload, write_payload
from tests.evidence.parts import Key

DIGEST = Digest.of(b"image")
STATEMENT = write_statement("https://slsa.dev/provenance/v1", {"a": [1, {"b": None}]}, subjects=[DIGEST], name="app")


def test_the_encoding_is_the_specifications_example() -> None:
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert pae("é", b"") == b"DSSEv1 2 \xc3\xa9 0 "


def test_an_envelope_survives_writing_and_verifies(key: Key) -> None:
    envelope = sign_envelope(STATEMENT, key.signer)
    again = read_envelope(write_envelope(envelope))
    assert again == envelope
    assert verify_envelope(again, key.verifier) == (key.signer.key_id,)
    assert json.loads(write_envelope(envelope)).keys() == {"payload", "payloadType", "signatures"}


@pytest.mark.parametrize("change", [{"payload": b"{}"}, {"payload_type": "text/plain"}, {"signatures": (b"",)}])
def test_a_changed_envelope_is_refused(key: Key, change: dict[str, Any]) -> None:
    envelope = sign_envelope(STATEMENT, key.signer)
    with pytest.raises(SignatureInvalid):
        verify_envelope(replace(envelope, **change), key.verifier)


def test_one_believed_signature_among_others_is_enough(key: Key, other_key: Key) -> None:
    theirs, ours = (sign_envelope(STATEMENT, item.signer) for item in (other_key, key))
    both = Envelope(IN_TOTO, STATEMENT, theirs.signatures + ours.signatures)
    assert verify_envelope(both, key.verifier) == (key.signer.key_id,)
    with pytest.raises(SignatureInvalid, match="none of its 1"):
        verify_envelope(theirs, key.verifier)


def test_url_safe_base64_is_read_too() -> None:
    payload = bytes(range(256))
    written = {
        "payload": base64.urlsafe_b64encode(payload).decode(),
        "payloadType": IN_TOTO,
        "signatures": [{"sig": base64.urlsafe_b64encode(b"\xff\xfe").decode(), "keyid": "lie"}],
    }
    assert read_envelope(json.dumps(written).encode()) == Envelope(IN_TOTO, payload, (b"\xff\xfe",))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"signatures": []}, "0 signatures"),
        ({"signatures": [{"sig": ""}] * (MAX_ENVELOPE_SIGNATURES + 1)}, "17 signatures"),
        ({"payload": "a"}, "payload is not base64"),
        ({"payload": "é==="}, "payload is not base64"),
        ({"signatures": [{"sig": "!!!!"}]}, "signature is not base64"),
        ({"payload": 1}, "DSSE envelope is not valid"),
    ],
)
def test_a_malformed_envelope_is_refused(key: Key, change: dict[str, Any], reason: str) -> None:
    document = json.loads(write_envelope(sign_envelope(STATEMENT, key.signer)))
    with pytest.raises(SignatureInvalid, match=reason):
        read_envelope(json.dumps({**document, **change}).encode())


def test_too_large_an_envelope_is_not_parsed() -> None:
    with pytest.raises(SignatureInvalid, match="at most"):
        read_envelope(b" " * (MAX_BUNDLE_BYTES + 1))


def test_a_bundle_is_the_documented_json(key: Key) -> None:
    envelope = sign_envelope(STATEMENT, key.signer)
    raw = write_bundle(envelope, key_id=key.signer.key_id)
    document = json.loads(raw)
    assert document["mediaType"] == SIGSTORE_BUNDLE
    hint = base64.b64decode(document["verificationMaterial"]["publicKey"]["hint"])
    assert f"sha256:{hint.hex()}" == key.signer.key_id
    assert read_bundle(raw).envelope == envelope


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"mediaType": "application/vnd.dev.sigstore.bundle.v0.4+json"}, "`mediaType` of the bundle"),
        ({"dsseEnvelope": None}, "no `dsseEnvelope`"),
        ({"dsseEnvelope": []}, "Sigstore bundle is not valid"),
    ],
)
def test_another_bundle_is_refused(key: Key, change: dict[str, Any], reason: str) -> None:
    raw = write_bundle(sign_envelope(STATEMENT, key.signer), key_id=key.signer.key_id)
    with pytest.raises(SignatureInvalid, match=reason):
        read_bundle(json.dumps({**json.loads(raw), **change}).encode())


@pytest.mark.parametrize("version", ["v1", "v0.1"])
def test_both_statement_versions_are_read(version: str) -> None:
    document = {**json.loads(STATEMENT), "_type": f"https://in-toto.io/Statement/{version}"}
    found = read_statement(json.dumps(document).encode())
    assert (found.predicate_type, found.subjects) == ("https://slsa.dev/provenance/v1", (DIGEST,))
    assert found.predicate == {"a": [1, {"b": None}]}
    check_statement(found, DIGEST, predicate_type="https://slsa.dev/provenance/v1")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"_type": "https://in-toto.io/Statement/v2"}, "not an in-toto statement"),
        ({"_type": None}, "_type"),
        ({"subject": [{"digest": {"sha256": "ab"}}]}, "subject of the statement"),
        ({"subject": [{"name": "x"}]}, "digest"),
        ({"subject": [{"digest": {}}] * (MAX_SUBJECTS + 1)}, "at most"),
        ({"predicate": []}, "predicate"),
        ({"predicateType": 1}, "predicateType"),
    ],
)
def test_a_malformed_statement_is_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(SignatureInvalid, match=reason):
        read_statement(json.dumps({**json.loads(STATEMENT), **change}).encode())


def test_a_statement_about_something_else_is_refused() -> None:
    found = read_statement(STATEMENT)
    with pytest.raises(SignatureInvalid, match="not about"):
        check_statement(found, Digest.of(b"another"))
    with pytest.raises(SignatureInvalid, match="not a https://cyclonedx"):
        check_statement(found, DIGEST, predicate_type="https://cyclonedx.org/bom")
    nothing = read_statement(
        json.dumps({**json.loads(STATEMENT), "subject": [{"digest": {"gitCommit": "x"}}]}).encode()
    )
    with pytest.raises(SignatureInvalid, match="about nothing in a registry"):
        check_statement(nothing, DIGEST)


def test_a_payload_names_digest_and_identity() -> None:
    raw = write_payload(DIGEST, "reg.example/app")
    assert raw == (
        b'{"critical":{"identity":{"docker-reference":"reg.example/app"},"image":{"docker-manifest-digest":"'
        + DIGEST.encode()
        + b'"},"type":"cosign container image signature"},"optional":null}'
    )
    assert check_payload(raw, DIGEST) == "reg.example/app"
    with pytest.raises(SignatureInvalid, match="the signature is over"):
        check_payload(raw, Digest.of(b"another"))
    with pytest.raises(SignatureInvalid, match="not cosign's"):
        check_payload(raw.replace(b"cosign container", b"Google cloud binauthz container"), DIGEST)


READERS: list[Callable[[bytes], object]] = [
    read_envelope,
    read_bundle,
    read_statement,
    lambda raw: check_payload(raw, DIGEST),
]


@pytest.mark.parametrize("reader", READERS)
@given(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True), st.integers(0, 255))
@settings(max_examples=60, deadline=None)
def test_truncated_or_damaged_input_is_our_error(
    make_key: Callable[[str], Key], reader: Callable[[bytes], object], cut: float, place: float, value: int
) -> None:
    signer = make_key("ours").signer
    envelope = sign_envelope(STATEMENT, signer)
    whole = [
        write_envelope(envelope),
        write_bundle(envelope, key_id=signer.key_id),
        STATEMENT,
        write_payload(DIGEST, "app"),
    ][READERS.index(reader)]
    reader(whole)
    with pytest.raises(SignatureInvalid):
        reader(whole[: int(cut * len(whole))])
    position = int(place * len(whole))
    try:
        reader(whole[:position] + bytes([value]) + whole[position + 1 :])
    except SignatureInvalid as error:
        assert error.what


@pytest.mark.parametrize("reader", READERS)
@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.text(), lambda inner: st.lists(inner)).map(str).map(str.encode)
)
@settings(max_examples=60, deadline=None)
def test_arbitrary_input_is_our_error(reader: Callable[[bytes], object], raw: bytes) -> None:
    with pytest.raises(SignatureInvalid):
        reader(raw)


def test_deep_nesting_is_our_error() -> None:
    with pytest.raises(SignatureInvalid):
        read_statement(STATEMENT.replace(b"null", b"[" * 100_000))
