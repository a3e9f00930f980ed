"""Timestamps: `openssl ts` is the authority, and checks our requests; what was changed in a token is refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.errors import SignatureInvalid
from registry_pipelines.evidence.der import write_der, write_integer, write_oid
from registry_pipelines.evidence.timestamps import MAX_TOKEN_BYTES, read_response, verify_token, write_request
from tests.doubles.authorities import STAMPS, Issued, OpensslTimestamps, make_root

pytestmark = pytest.mark.peer("openssl")
ROOT = make_root("tsa root")
MIDDLE = ROOT.issue("tsa middle", ca=True)
SIGNED = b"a signature"


@pytest.fixture(scope="module")
def stamper() -> Issued:
    return MIDDLE.issue("tsa", uses=(STAMPS,))


@pytest.fixture(scope="module")
def authority(
    stamper: Issued, peer: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> OpensslTimestamps:
    return OpensslTimestamps(peer("openssl"), tmp_path_factory.mktemp("tsa") / "here", stamper)


@pytest.fixture(scope="module")
def token(authority: OpensslTimestamps) -> bytes:
    request = write_request(SIGNED)
    return read_response(authority.answer(request.raw), SIGNED, nonce=request.nonce)


def test_a_token_says_when_a_trusted_authority_saw_these_bytes(token: bytes, stamper: Issued) -> None:
    stamp = verify_token(token, SIGNED, anchors=[ROOT.certificate])
    assert abs(stamp.at - datetime.now(UTC)) < timedelta(hours=1)
    assert (stamp.accuracy, stamp.policy) == (timedelta(seconds=1), "1.2.3.4.1")
    assert (stamp.latest - stamp.earliest, stamp.chain) == (timedelta(seconds=2), stamper.chain)
    with pytest.raises(SignatureInvalid, match="of other bytes"):
        verify_token(token, SIGNED + b"!", anchors=[ROOT.certificate])
    with pytest.raises(SignatureInvalid, match="nobody who is trusted"):
        verify_token(token, SIGNED, anchors=[make_root("tsa root").certificate])
    with pytest.raises(SignatureInvalid, match="at most"):
        verify_token(bytes(MAX_TOKEN_BYTES + 1), SIGNED, anchors=[ROOT.certificate])


def test_a_response_answers_one_request(authority: OpensslTimestamps) -> None:
    request = write_request(SIGNED)
    response = authority.answer(request.raw)
    assert read_response(response, SIGNED)
    with pytest.raises(SignatureInvalid, match="its nonce differs"):
        read_response(response, SIGNED, nonce=request.nonce ^ 1)
    with pytest.raises(SignatureInvalid, match="of other bytes"):
        read_response(response, b"other", nonce=request.nonce)
    refused = authority.answer(
        write_request(SIGNED).raw.replace(bytes.fromhex("608648016503040201"), bytes.fromhex("608648016503040209"))
    )
    with pytest.raises(SignatureInvalid, match=r"the authority refused \(status 2\)"):
        read_response(refused, SIGNED)


def test_openssl_reads_our_request_and_verifies_its_answer(authority: OpensslTimestamps) -> None:
    (authority.folder / "data").write_bytes(SIGNED)
    (authority.folder / "root.pem").write_bytes(ROOT.pem)
    request = write_request(SIGNED)
    (authority.folder / "answer").write_bytes(authority.answer(request.raw))
    (authority.folder / "query").write_bytes(request.raw)
    assert "Hash Algorithm: sha256" in authority.run("ts", "-query", "-in", "query", "-text")
    options = ["-in", "answer", "-queryfile", "query", "-CAfile", "root.pem"]
    assert "Verification: OK" in authority.run("ts", "-verify", *options)


@pytest.mark.parametrize("made", ["rsa", "p384", "sha1 identifier"])
def test_other_authorities_are_read_too(made: str, peer: Callable[[str], str], tmp_path: Path) -> None:
    keys = {
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
        "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    }
    stamper = ROOT.issue("other", uses=(STAMPS,), key=keys[made]() if made in keys else None)
    ess = "sha1" if made == "sha1 identifier" else "sha512"
    authority = OpensslTimestamps(
        peer("openssl"), tmp_path / "tsa", stamper, accuracy="millisecs:5, microsecs:7", ess=ess
    )
    token = read_response(authority.answer(write_request(SIGNED).raw), SIGNED)
    assert verify_token(token, SIGNED, anchors=[ROOT.certificate]).accuracy == timedelta(microseconds=5007)


def test_a_token_without_certificates_needs_them_given(authority: OpensslTimestamps, stamper: Issued) -> None:
    asked = write_request(SIGNED).raw
    without = bytes([asked[0], asked[1] - 3]) + asked[2:-3]  # certReq is the last field
    token = read_response(authority.answer(without), SIGNED)
    with pytest.raises(SignatureInvalid, match="brings no certificate of its signer"):
        verify_token(token, SIGNED, anchors=[ROOT.certificate])
    stamp = verify_token(token, SIGNED, anchors=[ROOT.certificate], certificates=stamper.chain)
    assert stamp.chain == stamper.chain


def test_the_authority_must_be_valid_at_the_moment_it_names(peer: Callable[[str], str], tmp_path: Path) -> None:
    """openssl signs with an expired certificate, too; a later end of the root's does not matter."""
    expired = ROOT.issue("was", uses=(STAMPS,), begins=timedelta(hours=-2), ends=timedelta(hours=-1))
    authority = OpensslTimestamps(peer("openssl"), tmp_path / "tsa", expired)
    token = read_response(authority.answer(write_request(SIGNED).raw), SIGNED)
    with pytest.raises(SignatureInvalid, match="was valid until"):
        verify_token(token, SIGNED, anchors=[ROOT.certificate])


SHA256, TST = "2.16.840.1.101.3.4.2.1", "1.2.840.113549.1.9.16.1.4"


def made_by_hand(
    by: Issued,
    *,
    content_type: str = TST,
    digest_of: bytes | None = None,
    named: x509.Certificate | None = None,
    accuracy: int = 1,
    extension: bytes = b"",
    signers: int = 1,
    attributes: bool = True,
    imprint: bytes = SIGNED,
    version: int = 1,
) -> bytes:
    """A token with any fault wanted, signed all the same. digest_of, named: what its attributes say about its content
    and its certificate."""

    def sequence(*parts: bytes) -> bytes:
        return write_der(0x30, *parts)

    def octets(raw: bytes) -> bytes:
        return write_der(0x04, raw)

    def attribute(kind: str, value: bytes) -> bytes:
        return sequence(write_oid(kind), write_der(0x31, value))

    algorithm, now = sequence(write_oid(SHA256)), datetime.now(UTC)
    info = sequence(
        write_integer(version),
        write_oid("1.2.3"),
        sequence(algorithm, octets(sha256(imprint).digest())),
        write_integer(7),
        write_der(0x18, f"{now:%Y%m%d%H%M%S}Z".encode()),
        sequence(write_integer(accuracy)),
        *([write_der(0xA1, extension)] if extension else []),
    )
    named_der = (named or by.certificate).public_bytes(Encoding.DER)
    told = [
        attribute("1.2.840.113549.1.9.3", write_oid(content_type)),
        attribute("1.2.840.113549.1.9.4", octets(sha256(info if digest_of is None else digest_of).digest())),
        attribute("1.2.840.113549.1.9.16.2.47", sequence(sequence(sequence(octets(sha256(named_der).digest()))))),
    ]
    signature = by.key.sign(write_der(0x31, *told), ec.ECDSA(hashes.SHA256()))
    signer = sequence(
        write_integer(1),
        sequence(by.certificate.issuer.public_bytes(), write_integer(by.certificate.serial_number)),
        algorithm,
        *([write_der(0xA0, *told)] if attributes else []),
        sequence(write_oid("1.2.840.10045.4.3.2")),
        octets(signature),
    )
    data = sequence(
        write_integer(3),
        write_der(0x31, algorithm),
        sequence(write_oid(TST), write_der(0xA0, octets(info))),
        write_der(0xA0, *(one.public_bytes(Encoding.DER) for one in by.chain)),
        write_der(0x31, *[signer] * signers),
    )
    return sequence(write_oid("1.2.840.113549.1.7.2"), write_der(0xA0, data))


EXTENSION = write_der(0x30, write_oid("1.2.3.4"), write_der(0x01, b"\xff"), write_der(0x04, b""))
HARMLESS = write_der(0x30, write_oid("1.2.3.4"), write_der(0x04, b""))
FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"content_type": "1.2.840.113549.1.7.1"}, "what the timestamp's signer signed is no timestamp"),
    ({"digest_of": b"other"}, "the timestamp's signature is over other content"),
    ({"named": ROOT.certificate}, "is signed for another certificate of the same name"),
    ({"extension": EXTENSION}, "critical extension that is not understood"),
    ({"signers": 2}, "has 2 signers"),
    ({"signers": 0}, "has 0 signers"),
    ({"attributes": False}, "no signed attributes"),
    # Of a day before and behind, both outside of what its certificate is valid for: whichever is found first.
    ({"accuracy": 86400}, "was valid until|is not valid before"),
    ({"accuracy": 86401}, "accuracy makes no sense"),
    ({"imprint": b"other"}, "of other bytes"),
    ({"version": 2}, "has version 2"),
    ({"version": 1 << 80_000}, "an integer has 10001 bytes"),
]


def test_a_token_made_by_hand_is_believed_and_with_any_fault_it_is_not(stamper: Issued) -> None:
    for good in ({}, {"extension": HARMLESS}):
        assert verify_token(made_by_hand(stamper, **good), SIGNED, anchors=[ROOT.certificate]).policy == "1.2.3"
    for fault, words in FAULTS:
        with pytest.raises(SignatureInvalid, match=words):
            verify_token(made_by_hand(stamper, **fault), SIGNED, anchors=[ROOT.certificate])


def test_a_number_without_end_in_a_response_is_refused_in_our_words() -> None:
    """Python writes no number of more than 4,300 digits, so that saying which it was would fail."""
    status = write_der(0x30, write_der(0x30, write_integer(1 << 80_000)))
    with pytest.raises(SignatureInvalid, match="an integer has 10001 bytes"):
        read_response(status, SIGNED)


@given(st.data())
def test_a_changed_token_never_says_another_time(token: bytes, data: st.DataObject) -> None:
    raw = bytearray(token)
    for _ in range(data.draw(st.integers(1, 2))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    changed = bytes(raw[: data.draw(st.integers(len(raw) - 3, len(raw)))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            stamp = verify_token(changed, SIGNED, anchors=[ROOT.certificate])
        except SignatureInvalid:
            return
    assert stamp == verify_token(token, SIGNED, anchors=[ROOT.certificate])


@given(st.binary(max_size=200))
def test_noise_is_refused_in_our_words(noise: bytes) -> None:
    for read in (lambda: verify_token(noise, SIGNED, anchors=[ROOT.certificate]), lambda: read_response(noise, SIGNED)):
        with pytest.raises(SignatureInvalid):
            read()
