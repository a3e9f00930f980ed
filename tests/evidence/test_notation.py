"""Notation signatures of the Notary Project's own tests, and envelopes, policies and stores with every fault."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.errors import InputError, SignatureInvalid
from registry_pipelines.evidence.cbor import read_cbor, write_cbor
from registry_pipelines.evidence.notation.envelope import COSE_TYPE, JWS_TYPE, Signed, check_integrity
from registry_pipelines.evidence.notation.identities import is_named, read_subject, write_subject
from registry_pipelines.evidence.notation.jws import to_be_signed_jws
from registry_pipelines.evidence.notation.trust import (
    Document,
    Statement,
    Trust,
    read_document,
    read_trust,
    write_document,
)
from registry_pipelines.evidence.notation.verify import VerifiedEnvelope, read_envelope, verify_envelope
from registry_pipelines.evidence.timestamps import verify_token
from registry_pipelines.evidence.x509 import name_of, read_certificates
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from tests.doubles.authorities import CODE, make_root, make_self_signed
from tests.evidence.forged import PREFIX, forged_cose, forged_jws, from_url, payload_of

DATA = Path(__file__).parent.parent / "data" / "notation-vectors.tar.gz"
with tarfile.open(DATA) as archive:
    VECTORS = {entry.name: archive.extractfile(entry).read() for entry in archive}  # type: ignore[union-attr]
STAMPS = read_certificates(VECTORS["tsa-root.crt"], where="tsa-root.crt")
TEST_ROOT = read_certificates(VECTORS["NotationTestRoot.pem"], where="NotationTestRoot.pem")
LATER = datetime(2027, 1, 1, tzinfo=UTC)
ROOT = make_root()
SIGNER = ROOT.issue("signer", uses=(CODE,))
IMAGE = Descriptor(media_type="application/vnd.oci.image.manifest.v1+json", digest=Digest.of(b"image"), size=5)
STATEMENT: dict[str, Any] = {
    "name": "p",
    "registryScopes": ["*"],
    "signatureVerification": {"level": "strict"},
    "trustStores": ["ca:s"],
    "trustedIdentities": ["*"],
}


def trust_of(anchors: Mapping[str, Any], **changed: Any) -> Trust:
    """anchors: certificates by the kind of their store."""
    statement = {**STATEMENT, "trustStores": [f"{kind}:s" for kind in anchors], **changed}
    document = read_document(json.dumps({"version": "1.0", "trustPolicies": [statement]}).encode())
    return Trust(document, {(kind, "s"): list(found) for kind, found in anchors.items()})  # type: ignore[misc]


def verify(raw: bytes, trust: Trust, *, now: datetime = LATER, taken_back: str = "") -> VerifiedEnvelope:
    media_type = JWS_TYPE if raw.lstrip().startswith(b"{") else COSE_TYPE
    envelope, statement = read_envelope(raw, media_type), trust.document.trust_policies[0]
    return verify_envelope(envelope, trust, statement, now=now, revocation=lambda chain: taken_back)


STAMPED = ["coseExpiredWithTimestamp", "coseWithTimestamp", "jwsExpiredWithTimestamp", "jwsWithTimestamp"]


@pytest.mark.parametrize("name", STAMPED)
def test_signatures_with_a_timestamp_of_a_public_authority_outlive_their_certificate(name: str) -> None:
    raw = VECTORS[f"{name}.sig"]
    leaf = check_integrity(read_envelope(raw, COSE_TYPE if name.startswith("cose") else JWS_TYPE))
    found = verify(raw, trust_of({"ca": leaf, "tsa": STAMPS}), now=datetime(2050, 1, 1, tzinfo=UTC))
    assert found.timestamp is not None
    assert found.timestamp.at.date().isoformat() == "2024-06-18"
    assert (found.timestamp.accuracy, len(found.timestamp.chain)) == (timedelta(seconds=1), 3)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("timestampAfterNotAfter", "authenticTimestamp: .* was valid until 2001-09-18"),
        ("timestampBeforeNotBefore", "authenticTimestamp: .* is not valid before 2099-09-18"),
        ("withoutTimestamp", "authenticTimestamp: the signature has no timestamp"),
    ],
)
def test_signatures_whose_timestamp_does_not_help_are_refused(name: str, words: str) -> None:
    raw = VECTORS[f"{name}.sig"]
    leaf = check_integrity(read_envelope(raw, JWS_TYPE if raw.startswith(b"{") else COSE_TYPE))
    with pytest.raises(SignatureInvalid, match=words):
        verify(raw, trust_of({"ca": leaf, "tsa": STAMPS}))
    logged = trust_of({"ca": leaf, "tsa": STAMPS}, signatureVerification={"level": "permissive"})
    assert len(verify(raw, logged).logged) == 1


@pytest.mark.parametrize("kind", ["ca", "sa"])
def test_signatures_of_both_schemes(kind: str) -> None:
    own, other = ("ca", "signingAuthority") if kind == "ca" else ("signingAuthority", "ca")
    trust = trust_of({own: TEST_ROOT})
    found = verify(VECTORS[f"{kind}_valid_sig_env.json"], trust)
    assert found.chain[-1] in TEST_ROOT
    with pytest.raises(SignatureInvalid, match=r"authenticity: .*it has no store for the scheme"):
        verify(VECTORS[f"{kind}_valid_sig_env.json"], trust_of({other: TEST_ROOT}))
    for name, words in (
        ("expired", "expiry: the signature has expired at 2022-07-29"),
        ("invalid", "base64url"),
        ("plugin", "not understood here: SomeKey, io.cncf.notary.verificationPlugin"),
    ):
        with pytest.raises(SignatureInvalid, match=words):
            verify(VECTORS[f"{kind}_{name}_sig_env.json"], trust)


TOKENS = [
    ("TimeStampToken", ""),
    ("TimeStampTokenWithInvalidSignature", "signature is not that of"),
    ("TimeStampTokenWithInvalidTSTInfo", "time has tag"),
    ("TimeStampTokenWithInvalideContentType", "is no timestamp"),
    ("TimeStampTokenWithoutCertificate", "brings no certificate"),
]


@pytest.mark.parametrize(("name", "words"), TOKENS)
def test_tokens_of_a_public_authority(name: str, words: str) -> None:
    raw = VECTORS[f"{name}.p7s"]
    if not words:
        assert verify_token(raw, b"notation", anchors=STAMPS).at == datetime(2021, 9, 17, 14, 9, 10, tzinfo=UTC)
        return
    contents = (b"notation", b"")
    refusals = []
    for content in contents:
        with pytest.raises(SignatureInvalid) as refused:
            verify_token(raw, content, anchors=STAMPS)
        refusals.append(str(refused.value))
    assert any(words in refusal for refusal in refusals), refusals


def test_the_conformance_documents_are_read_and_written_alike() -> None:
    document = json.loads(VECTORS["cose-conformance.json"])
    raw = bytes.fromhex(document["expectedOutput"]["cborHex"])
    assert write_cbor(read_cbor(raw)) == raw
    envelope = read_envelope(raw, COSE_TYPE)
    assert envelope.signed == Signed(
        time=datetime.fromtimestamp(document["signingTime"], UTC),
        expiry=datetime.fromtimestamp(document["expiry"], UTC),
        unknown=("signedCritKey1",),
    )
    assert (envelope.algorithm, envelope.agent, envelope.payload) == (
        "PS384",
        "NotationConformanceTest/1.0.0",
        bytes.fromhex(document["payload"]),
    )
    jws = read_envelope(VECTORS["jws-conformance.json"], JWS_TYPE)
    assert (jws.payload, jws.signed.unknown) == (b'{"key":"hello JWS"}', ("signedCritKey1",))
    ours = json.loads(from_url(to_be_signed_jws(jws.payload, "ES256", jws.signed).split(b".")[0].decode()))
    theirs = json.loads(from_url(json.loads(VECTORS["jws-conformance.json"])["protected"]))
    for name, value in ours.items():
        assert theirs[name] == ([*value[:1], "signedCritKey1", *value[1:]] if name == "crit" else value)


@pytest.mark.parametrize("form", [forged_jws, forged_cose])
def test_each_check_is_enforced_logged_or_skipped_as_the_level_says(form: Any) -> None:
    raw = form(SIGNER, payload_of(IMAGE))
    usual, other = {"ca": [ROOT.certificate]}, {"ca": [make_root().certificate]}
    now, late = datetime.now(UTC), datetime.now(UTC) + timedelta(days=9)
    cases = [("authenticity", other, now, ""), ("authenticTimestamp", usual, late, ""), ("revocation", usual, now, "x")]
    for check, anchors, at, taken_back in cases:
        for level in ("strict", "permissive", "audit"):
            trust = trust_of(anchors, signatureVerification={"level": level})
            if level == "strict" or (level == "permissive" and check == "authenticity"):
                with pytest.raises(SignatureInvalid, match=check):
                    verify(raw, trust, now=at, taken_back=taken_back)
                continue
            assert [one.split(":")[0] for one in verify(raw, trust, now=at, taken_back=taken_back).logged] == [check]
    skipped = {"level": "strict", "override": {"revocation": "skip"}}
    assert verify(raw, trust_of(usual, signatureVerification=skipped), now=now, taken_back="x").logged == ()
    enforced = {"level": "audit", "override": {"authenticity": "enforce"}}
    with pytest.raises(SignatureInvalid, match="authenticity"):
        verify(raw, trust_of(other, signatureVerification=enforced), now=now)


def test_an_identity_is_one_of_those_that_are_named() -> None:
    raw, anchors = forged_jws(SIGNER, payload_of(IMAGE)), {"ca": [ROOT.certificate]}
    for named, believed in ((["C=GB, ST=X, O=a", "C=GB, ST=X, O=platform"], True), (["C=GB, ST=X, O=a"], False)):
        trust = trust_of(anchors, trustedIdentities=[f"x509.subject: {one}" for one in named])
        if believed:
            assert verify(raw, trust, now=datetime.now(UTC)).authentic
            continue
        with pytest.raises(SignatureInvalid, match="is not among the trusted identities"):
            verify(raw, trust, now=datetime.now(UTC))


def test_revocation_is_asked_about_those_who_are_trusted_and_about_their_timestamps() -> None:
    """A stranger's certificate names addresses that the stranger chose."""
    asked: list[str] = []

    def revocation(chain: Any) -> str:
        asked.append(name_of(chain[0]))
        return "taken back" if "TSA" in asked[-1] else ""

    statement = {"level": "audit"}
    for anchors, count in (([ROOT.certificate], 1), ([make_root().certificate], 0)):
        trust = trust_of({"ca": anchors}, signatureVerification=statement)
        envelope = read_envelope(forged_jws(SIGNER, payload_of(IMAGE)), JWS_TYPE)
        verify_envelope(envelope, trust, trust.statement_for("a/b"), now=datetime.now(UTC), revocation=revocation)
        assert len(asked) == count
        asked.clear()
    envelope = read_envelope(VECTORS["jwsWithTimestamp.sig"], JWS_TYPE)
    trust = trust_of({"ca": check_integrity(envelope), "tsa": STAMPS})
    with pytest.raises(SignatureInvalid, match="authenticTimestamp: taken back"):
        verify_envelope(envelope, trust, trust.statement_for("a/b"), now=LATER, revocation=revocation)


def test_an_authority_signs_while_its_certificate_is_valid() -> None:
    scheme, time = f"{PREFIX}signingScheme", f"{PREFIX}authenticSigningTime"
    trust = trust_of({"signingAuthority": [ROOT.certificate]})
    for at, believed in ((datetime.now(UTC), True), (datetime(2020, 1, 1, tzinfo=UTC), False)):
        header = {scheme: "notary.x509.signingAuthority", time: f"{at:%Y-%m-%dT%H:%M:%SZ}", "crit": [scheme, time]}
        raw = forged_jws(SIGNER, payload_of(IMAGE), {**header, f"{PREFIX}signingTime": None})
        if believed:
            assert verify(raw, trust).authentic
            continue
        with pytest.raises(SignatureInvalid, match=r"authenticTimestamp: .* is not valid before"):
            verify(raw, trust)


def test_a_timestamp_may_be_wanted_only_when_the_certificate_has_expired() -> None:
    raw = forged_jws(SIGNER, payload_of(IMAGE))
    anchors = {"ca": [ROOT.certificate], "tsa": STAMPS}
    expired_only = {"level": "strict", "verifyTimestamp": "afterCertExpiry"}
    now, late = datetime.now(UTC), datetime.now(UTC) + timedelta(days=9)
    assert verify(raw, trust_of(anchors, signatureVerification=expired_only), now=now).timestamp is None
    for verification, at in ((expired_only, late), ({"level": "strict"}, now)):
        with pytest.raises(SignatureInvalid, match="has no timestamp"):
            verify(raw, trust_of(anchors, signatureVerification=verification), now=at)


@given(st.data())
@pytest.mark.parametrize("name", ["jwsWithTimestamp.sig", "coseWithTimestamp.sig"])
def test_a_changed_signature_never_says_another_thing(name: str, data: st.DataObject) -> None:
    raw = bytearray(VECTORS[name])
    media_type = JWS_TYPE if name.startswith("jws") else COSE_TYPE
    leaf = check_integrity(read_envelope(VECTORS[name], media_type))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    trust = trust_of({"ca": leaf, "tsa": STAMPS})
    try:
        envelope = read_envelope(bytes(raw), media_type)
        found = verify_envelope(envelope, trust, trust.statement_for("a/b"), now=LATER, revocation=lambda chain: "")
    except SignatureInvalid:
        return
    assert found == verify(VECTORS[name], trust)


@given(st.binary(max_size=100), st.sampled_from([JWS_TYPE, COSE_TYPE, ""]))
def test_noise_is_refused_in_our_words(noise: bytes, media_type: str) -> None:
    with pytest.raises(SignatureInvalid):
        read_envelope(noise, media_type)


SUBJECTS = [
    ("C=GB, ST=X, O=platform", {"C": "GB", "ST": "X", "O": "platform"}),
    ("C=GB,S=X,O=a\\, b\\+c", {"C": "GB", "ST": "X", "O": "a, b+c"}),
    ("C=GB;ST=\\c3\\a9;O= x\\  ,CN=a=b", {"C": "GB", "ST": "é", "O": "x ", "CN": "a=b"}),
    ("C=GB,ST=X,O=x,1.2.3=y", {"C": "GB", "ST": "X", "O": "x", "1.2.3": "y"}),
]
NO_SUBJECTS = [
    ("", "not NAME=VALUE"),
    ("C=GB,ST=X", "O is missing"),
    ("C=GB,ST=X,O=", "O is missing"),
    ("C=GB,ST=X,O=a,O=b", "O is there twice"),
    ("C=GB,ST=X,S=Y,O=a", "ST is there twice"),
    ("C=GB+ST=X,O=a", "two values"),
    ("C=GB,ST=X,O=#0401", "hexadecimal"),
    ("C=GB,ST=X,O=a\\", "middle of an escape"),
    ("C=GB,ST=X,O=\\ff", "not UTF-8"),
    ("C=GB,ST=X,O=a,platform", "'platform' is not NAME=VALUE"),
]


@pytest.mark.parametrize(("text", "expected"), SUBJECTS)
def test_subjects_are_read_as_policies_write_them(text: str, expected: dict[str, str]) -> None:
    assert read_subject(text) == expected


@pytest.mark.parametrize(("text", "words"), NO_SUBJECTS)
def test_what_is_no_subject_says_why(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_subject(text)


def test_a_subject_names_a_certificate_by_all_that_it_says() -> None:
    leaf = SIGNER.certificate
    assert is_named(leaf, read_subject(write_subject(leaf)))
    assert is_named(leaf, read_subject("C=GB, ST=X, O=platform"))
    for text in ("C=GB, ST=X, O=platfor", "C=GB, ST=X, O=platform, CN=other", "C=GB, ST=X, O=platform, OU=x"):
        assert not is_named(leaf, read_subject(text))


@given(st.text(min_size=1, max_size=20), st.text(max_size=20))
def test_a_subject_that_is_written_reads_back(organisation: str, name: str) -> None:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    names = {NameOID.COUNTRY_NAME: "GB", NameOID.STATE_OR_PROVINCE_NAME: "X", NameOID.ORGANIZATION_NAME: organisation}
    if name:
        names[NameOID.COMMON_NAME] = name
    try:
        subject = x509.Name([x509.NameAttribute(kind, value) for kind, value in names.items()])
    except ValueError:  # too long in UTF-8
        return
    certificate = Named(subject)
    read = read_subject(write_subject(certificate))  # type: ignore[arg-type]
    assert (read["O"], read.get("CN", "")) == (organisation, name)


class Named:
    """What is asked of a certificate here."""

    def __init__(self, subject: Any) -> None:
        self.subject = subject


BAD_POLICIES: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "it has no name"),
    ({"registryScopes": []}, "are repositories, or `*` alone"),
    ({"registryScopes": ["*", "a/b"]}, "are repositories, or `*` alone"),
    ({"registryScopes": ["reg.example"]}, "is not a full repository"),
    ({"registryScopes": ["https://reg.example/app"]}, "is not a full repository"),
    ({"registryScopes": ["reg.example/app:v1"]}, "is not a full repository"),
    ({"registryScopes": ["reg.example/*"]}, "is not a full repository"),
    ({"signatureVerification": {"level": "lax"}}, "Invalid enum value 'lax'"),
    ({"signatureVerification": {"level": "strict", "override": {"integrity": "log"}}}, "integrity is always enforced"),
    ({"signatureVerification": {"level": "strict", "override": {"expiry": "skip"}}}, "can be logged, and not skipped"),
    ({"signatureVerification": {"level": "strict", "override": {"all": "log"}}}, "Invalid enum value 'all'"),
    ({"signatureVerification": {"level": "strict", "verifyTimestamp": "never"}}, "Invalid enum value 'never'"),
    ({"signatureVerification": {"level": "skip"}}, "verifies nothing at all"),
    ({"signatureVerification": {"level": "skip"}, "registryScopes": ["a/b"]}, "has neither"),
    ({"trustStores": []}, "are both needed"),
    ({"trustedIdentities": []}, "are both needed"),
    ({"trustStores": ["ca"]}, "is not ca:NAME"),
    ({"trustStores": ["ca:../x"]}, "is not ca:NAME"),
    ({"trustStores": ["ca:.."]}, "is not ca:NAME"),
    ({"trustStores": ["root:x"]}, "is not ca:NAME"),
    ({"trustedIdentities": ["*", "x509.subject: C=GB, ST=X, O=a"]}, "stands alone"),
    ({"trustedIdentities": ["platform"]}, "is not x509.subject: SUBJECT"),
    ({"trustedIdentities": ["x509.subject: C=GB"]}, "ST is missing"),
    ({"trustedIdentities": ["x509.subject: C=GB, ST=X, O=a", "x509.subject: C=GB, ST=X, O=a, CN=b"]}, "overlap"),
]


@pytest.mark.parametrize(("changed", "words"), BAD_POLICIES)
def test_a_policy_that_notation_refuses_is_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as refused:
        read_document(json.dumps({"version": "1.0", "trustPolicies": [{**STATEMENT, **changed}]}).encode())
    assert words in str(refused.value)


def test_documents_are_one_whole() -> None:
    for document, words in (
        ({"version": "2.0", "trustPolicies": [STATEMENT]}, "2.0"),
        ({"version": "1.0", "trustPolicies": []}, "no statement"),
        ({"version": "1.0", "trustPolicies": [STATEMENT, STATEMENT]}, "two statements"),
        ([], "object"),
    ):
        with pytest.raises(InputError, match=words):
            read_document(json.dumps(document).encode())


def test_the_statement_that_names_a_repository_counts_before_the_one_for_all() -> None:
    named = {**STATEMENT, "name": "named", "registryScopes": ["reg.example:5000/team/app"]}
    document = read_document(json.dumps({"version": "1.0", "trustPolicies": [STATEMENT, named]}).encode())
    for repository, name in (("reg.example:5000/team/app", "named"), ("reg.example:5000/team/ap", "p"), ("x/y", "p")):
        statement = document.statement_for(repository)
        assert statement is not None
        assert statement.name == name
    only = Document("1.0", [msgspec.convert(named, Statement)])
    assert read_document(write_document(only)) == only
    with pytest.raises(SignatureInvalid, match="no statement of the Notation trust policy"):
        Trust(only, {}).statement_for("reg.example:5000/team/other")


def test_skipping_is_no_verification() -> None:
    statement = {"name": "none", "registryScopes": ["a/b"], "signatureVerification": {"level": "skip"}}
    document = read_document(json.dumps({"version": "1.0", "trustPolicies": [statement]}).encode())
    assert document.trust_policies[0].skips


def store(folder: Path, kind: str = "ca") -> Path:
    path = folder / "truststore" / "x509" / kind / "s"
    path.mkdir(parents=True, exist_ok=True)
    return path


def test_stores_are_read_whole_or_refused(tmp_path: Path) -> None:
    leaf, root, alone = SIGNER.certificate, ROOT, make_self_signed()
    with pytest.raises(InputError, match="there is no Notation trust policy"):
        read_trust(tmp_path)
    (tmp_path / "trustpolicy.json").write_text(json.dumps({"version": "1.0", "trustPolicies": [STATEMENT]}))
    with pytest.raises(InputError, match="trust store cannot be read"):
        read_trust(tmp_path)
    path = store(tmp_path)
    with pytest.raises(InputError, match="holds no certificate"):
        read_trust(tmp_path)
    (path / "root.pem").write_bytes(root.pem + alone.pem)
    trust = read_trust(tmp_path)
    assert trust.anchors(trust.statement_for("a/b"), "notary.x509") == [root.certificate, alone.certificate]
    (path / "b.crt").write_bytes(SIGNER.pem.split(b"-----END CERTIFICATE-----")[0] + b"-----END CERTIFICATE-----\n")
    with pytest.raises(InputError, match="is neither an authority's nor self-signed"):
        read_trust(tmp_path)
    (path / "b.crt").unlink()
    (path / "link.pem").symlink_to(path / "root.pem")
    with pytest.raises(InputError, match="links are not followed"):
        read_trust(tmp_path)
    (path / "link.pem").unlink()
    (path / "folder").mkdir()
    with pytest.raises(InputError, match="Is a directory"):
        read_trust(tmp_path)
    (path / "folder").rmdir()
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="a trust store is a folder, and no link"):
        read_trust(tmp_path)
    assert leaf not in trust.anchors(trust.statement_for("a/b"), "notary.x509")


def test_only_roots_are_trusted_for_timestamps(tmp_path: Path) -> None:
    statement = {**STATEMENT, "trustStores": ["tsa:s"]}
    (tmp_path / "trustpolicy.oci.json").write_text(json.dumps({"version": "1.0", "trustPolicies": [statement]}))
    (tmp_path / "trustpolicy.json").write_text("what is not read beside the other")
    middle = ROOT.issue("middle", ca=True).pem.split(b"-----END CERTIFICATE-----")[0] + b"-----END CERTIFICATE-----\n"
    for raw, refused in ((ROOT.pem, False), (middle, True), (make_self_signed().pem, True)):
        (store(tmp_path, "tsa") / "one.pem").write_bytes(raw)
        if not refused:
            assert read_trust(tmp_path).timestamp_anchors(read_trust(tmp_path).statement_for("a/b"))
            continue
        with pytest.raises(InputError, match="only roots are trusted"):
            read_trust(tmp_path)
