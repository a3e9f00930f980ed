"""Chains of certificates: what is one, what each place in it demands, and what is refused with which words."""

from __future__ import annotations

import datetime
import subprocess
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, ObjectIdentifier
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.errors import InputError, SignatureInvalid
from registry_pipelines.evidence.x509 import (
    MAX_CERTIFICATES,
    Purpose,
    check_chain,
    check_dates,
    check_leaf,
    der_of,
    find_chain,
    is_authority,
    is_self_signed,
    load_certificates,
    name_of,
    read_certificates,
    subject_names,
    thumbprint,
)
from tests.doubles.authorities import CODE, STAMPS, Issued, key_usage, make_root, make_self_signed, subject_of

ROOT = make_root()
MIDDLE = ROOT.issue("middle", ca=True, path_length=0)
LEAF = MIDDLE.issue("signer", uses=(CODE,))
NOW = datetime.datetime.now(datetime.UTC)


def test_a_chain_is_checked_in_its_order_and_found_in_none() -> None:
    check_chain(LEAF.chain, Purpose.CODE)
    assert (
        find_chain(LEAF.certificate, [ROOT.certificate, MIDDLE.certificate], [ROOT.certificate], Purpose.CODE)
        == LEAF.chain
    )
    assert find_chain(LEAF.certificate, [], [MIDDLE.certificate], Purpose.CODE) == LEAF.chain[:2]
    assert find_chain(LEAF.certificate, [], [LEAF.certificate], Purpose.CODE) == LEAF.chain[:1]
    check_chain(make_self_signed().chain, Purpose.CODE)


@pytest.mark.parametrize(
    ("chain", "words"),
    [
        ((), "0 certificates"),
        ((LEAF.certificate,), "is not self-signed"),
        ((LEAF.certificate, ROOT.certificate), "is not issued by"),
        ((LEAF.certificate, MIDDLE.certificate), "is not self-signed"),
        ((*LEAF.chain, ROOT.certificate), "is self-signed and not the last"),
        ((LEAF.certificate, MIDDLE.certificate, make_root().certificate), "is not issued by"),
    ],
)
def test_what_is_no_chain_is_refused(chain: tuple[x509.Certificate, ...], words: str) -> None:
    with pytest.raises(SignatureInvalid, match=words):
        check_chain(chain, Purpose.CODE)


def strange_name(tag: int) -> x509.UnrecognizedExtension:
    """Another name of a kind that cryptography does not read (x400Address, ediPartyName)."""
    return x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, bytes((0x30, 2, tag, 0)))


LEAVES: list[tuple[Callable[[], Issued], str]] = [
    (lambda: MIDDLE.issue("x", usage=key_usage("content_commitment")), "keyUsage"),
    (lambda: MIDDLE.issue("x", usage=key_usage("digital_signature", "key_encipherment")), "keyUsage"),
    (lambda: MIDDLE.issue("x", usage=key_usage("digital_signature", "key_cert_sign")), "keyUsage"),
    (lambda: MIDDLE.issue("x", critical=False), "no critical `keyUsage`"),
    (lambda: MIDDLE.issue("x", ca=True, usage=key_usage("digital_signature")), "authority's"),
    (lambda: MIDDLE.issue("x", uses=(CODE, ExtendedKeyUsageOID.SERVER_AUTH)), "extendedKeyUsage"),
    (lambda: MIDDLE.issue("x", uses=(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE, CODE)), "extendedKeyUsage"),
    (lambda: MIDDLE.issue("x", uses=(STAMPS,)), "extendedKeyUsage"),
    (lambda: MIDDLE.issue("x", uses=(ObjectIdentifier("1.2.3.4"),)), "extendedKeyUsage"),
    (lambda: MIDDLE.issue("x", key=rsa.generate_private_key(65537, 1024)), "has a key that is none of"),
    (lambda: MIDDLE.issue("x", key=ec.generate_private_key(ec.SECP256K1())), "has a key that is none of"),
    (
        lambda: MIDDLE.issue("x", more=((x509.UnrecognizedExtension(ObjectIdentifier("1.2.3"), b"x"), True),)),
        r"critical extension that is not understood here \(1.2.3\)",
    ),
    (
        lambda: MIDDLE.issue("x", more=((x509.NameConstraints([x509.DNSName("a")], None), True),)),
        "critical extension that is not understood",
    ),
    *(
        (lambda tag=tag: MIDDLE.issue("x", more=((strange_name(tag), False),)), "cannot be read")
        for tag in (0xA3, 0xA5)
    ),
]


@pytest.mark.parametrize(("make", "words"), LEAVES)
def test_a_leaf_signs_code_or_it_is_refused(make: Callable[[], Issued], words: str) -> None:
    leaf = make()
    for check in (
        lambda: check_chain(leaf.chain, Purpose.CODE),
        lambda: find_chain(leaf.certificate, leaf.chain, [ROOT.certificate], Purpose.CODE),
    ):
        with pytest.raises(SignatureInvalid, match=words):
            check()


def test_a_leaf_for_timestamps_signs_nothing_else() -> None:
    for usage in ("digital_signature", "content_commitment"):
        stamper = MIDDLE.issue("tsa", uses=(STAMPS,), usage=key_usage(usage))
        check_chain(stamper.chain, Purpose.TIMESTAMPS)
    for uses in ((), (CODE,), (STAMPS, CODE)):
        with pytest.raises(SignatureInvalid, match="timeStamping alone"):
            check_chain(MIDDLE.issue("tsa", uses=uses).chain, Purpose.TIMESTAMPS)


AUTHORITIES: list[tuple[Callable[[], Issued], str]] = [
    (lambda: ROOT.issue("a", usage=key_usage("key_cert_sign")), "no critical `basicConstraints`"),
    (lambda: ROOT.issue("a", ca=True, critical=False), "no critical `basicConstraints`"),
    (lambda: ROOT.issue("a", ca=True, usage=key_usage("crl_sign")), "no keyCertSign"),
    (lambda: ROOT.issue("a", ca=True, uses=(ExtendedKeyUsageOID.SERVER_AUTH,)), "no certificates for code signing"),
    (lambda: MIDDLE.issue("a", ca=True), "allows 0 authorities below it, and there are 1"),
    *(
        (lambda limit=limit: ROOT.issue("a", ca=True, more=((limit, False),)), "limits the names or policies")
        for limit in (
            x509.NameConstraints([x509.DirectoryName(subject_of("somebody else"))], None),
            x509.NameConstraints(None, [x509.DirectoryName(subject_of("signer"))]),
            x509.PolicyConstraints(0, None),
        )
    ),
]


@pytest.mark.parametrize(("make", "words"), AUTHORITIES)
def test_an_authority_may_issue_or_its_leaves_are_refused(make: Callable[[], Issued], words: str) -> None:
    leaf = make().issue("signer")
    for check in (
        lambda: check_chain(leaf.chain, Purpose.CODE),
        lambda: find_chain(leaf.certificate, leaf.chain, [ROOT.certificate], Purpose.CODE),
    ):
        with pytest.raises(SignatureInvalid, match=words):
            check()


def test_dates_count_when_they_are_asked_for_and_another_path_is_taken() -> None:
    late = MIDDLE.issue("late", begins=timedelta(days=-3), ends=timedelta(days=-1))
    check_chain(late.chain, Purpose.CODE)
    with pytest.raises(SignatureInvalid, match="was valid until"):
        check_dates(late.chain, NOW)
    with pytest.raises(SignatureInvalid, match="is not valid before"):
        check_dates(LEAF.chain, NOW - timedelta(days=9))
    with pytest.raises(SignatureInvalid, match="was valid until"):
        check_dates(LEAF.chain, NOW, NOW + timedelta(days=9))
    renewed = ROOT.issue("middle", ca=True, key=MIDDLE.key)
    expired = ROOT.issue("middle", ca=True, key=MIDDLE.key, begins=timedelta(days=-3), ends=timedelta(days=-1))
    others = [expired.certificate, renewed.certificate]
    found = find_chain(LEAF.certificate, others, [ROOT.certificate], Purpose.CODE, at=NOW)
    assert found[1] == renewed.certificate
    with pytest.raises(SignatureInvalid, match="was valid until"):
        find_chain(LEAF.certificate, others[:1], [ROOT.certificate], Purpose.CODE, at=NOW)


def test_a_flood_of_authorities_of_one_name_ends() -> None:
    """Whoever may push makes certificates that issue each other in circles; the search is bounded."""
    key = ec.generate_private_key(ec.SECP256R1())
    ring = [make_root("ring", key=key) for _ in range(MAX_CERTIFICATES)]
    leaf = ring[0].issue("signer")
    with pytest.raises(SignatureInvalid, match="issued by nobody who is trusted"):
        find_chain(leaf.certificate, [one.certificate for one in ring], [ROOT.certificate], Purpose.CODE)


def test_other_keys_sign_too() -> None:
    for key in (ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP521R1())):
        check_chain(MIDDLE.issue("x", key=key).chain, Purpose.CODE)


def test_what_a_certificate_is() -> None:
    assert subject_names(LEAF.certificate) == {"C": ("GB",), "ST": ("X",), "O": ("platform",), "CN": ("signer",)}
    assert name_of(LEAF.certificate) == "C=GB, ST=X, O=platform, CN=signer"
    assert (is_authority(ROOT.certificate), is_authority(LEAF.certificate)) == (True, False)
    assert (is_self_signed(ROOT.certificate), is_self_signed(MIDDLE.certificate)) == (True, False)
    assert len(thumbprint(LEAF.certificate)) == 64


def test_files_of_certificates_are_taken_whole_or_refused() -> None:
    assert read_certificates(LEAF.pem, where="f") == list(LEAF.chain)
    assert read_certificates(LEAF.certificate.public_bytes(Encoding.DER), where="f") == [LEAF.certificate]
    for raw, words in (
        (b"", "no certificate"),
        (b"nothing", "no certificate"),
        (LEAF.pem + LEAF.key_pem, "certificates alone"),
        (LEAF.pem[:-40], "cannot be read"),
        (b"\x30\x03abc", "cannot be read"),
    ):
        with pytest.raises(InputError, match=words):
            read_certificates(raw, where="f")


def test_what_signatures_bring_is_bounded() -> None:
    with pytest.raises(SignatureInvalid, match="at most 20"):
        load_certificates([der_of(LEAF.certificate)] * 21)
    with pytest.raises(SignatureInvalid, match="more than 65536 bytes"):
        load_certificates([bytes(70000)])


@given(st.data())
def test_a_damaged_certificate_is_refused_in_our_words_or_means_the_same(data: st.DataObject) -> None:
    raw = bytearray(der_of(LEAF.certificate))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(raw[: data.draw(st.integers(1, len(raw)))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cryptography warns of what it takes all the same
        try:
            (read,) = load_certificates([cut])
            check_leaf(read, Purpose.CODE)
            chain = find_chain(read, [MIDDLE.certificate], [ROOT.certificate], Purpose.CODE)
        except SignatureInvalid:
            return
    assert chain[0].tbs_certificate_bytes == LEAF.certificate.tbs_certificate_bytes


@pytest.mark.peer("openssl")
def test_a_certificate_that_is_signed_over_sha1_is_nobodys(tmp_path: Path, peer: Callable[[str], str]) -> None:
    """Made by openssl: cryptography signs none any more."""
    (tmp_path / "root.pem").write_bytes(ROOT.pem)
    (tmp_path / "root.key").write_bytes(ROOT.key_pem)
    (tmp_path / "leaf.key").write_bytes(LEAF.key_pem)
    (tmp_path / "extensions").write_text("keyUsage=critical,digitalSignature\n")
    for digest, believed in (("sha256", True), ("sha1", False)):
        program, files = peer("openssl"), {"cwd": tmp_path, "check": True, "capture_output": True}
        subject = ["-subj", "/O=platform/CN=x", "-key", "leaf.key", "-out", "leaf.csr"]
        subprocess.run([program, "req", "-new", *subject], **files)
        issue = ["x509", "-req", "-in", "leaf.csr", "-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial"]
        subprocess.run([program, *issue, f"-{digest}", "-extfile", "extensions", "-out", "leaf.pem"], **files)
        (leaf,) = read_certificates((tmp_path / "leaf.pem").read_bytes(), where="leaf")
        if believed:
            assert find_chain(leaf, [], [ROOT.certificate], Purpose.CODE) == (leaf, ROOT.certificate)
            continue
        with pytest.raises(SignatureInvalid, match="nobody who is trusted"):
            find_chain(leaf, [], [ROOT.certificate], Purpose.CODE)


@pytest.mark.peer("openssl")
def test_openssl_believes_the_chains_that_we_believe(tmp_path: Path, peer: Callable[[str], str]) -> None:
    (tmp_path / "root.pem").write_bytes(ROOT.pem)
    (tmp_path / "middle.pem").write_bytes(MIDDLE.certificate.public_bytes(Encoding.PEM))
    (tmp_path / "leaf.pem").write_bytes(LEAF.certificate.public_bytes(Encoding.PEM))
    command = [peer("openssl"), "verify", "-x509_strict", "-CAfile", "root.pem", "-untrusted", "middle.pem", "leaf.pem"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout == "leaf.pem: OK\n"
