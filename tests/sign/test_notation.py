"""Attacks on Notation signatures: what the real notation refuses we refuse, and a bad one hides no good one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from registry_pipelines.errors import EvidenceMissing, InputError, SignatureInvalid, Unavailable
from registry_pipelines.evidence.cbor import Tagged
from registry_pipelines.evidence.notation.aws_signer import PROFILE_VERSION
from registry_pipelines.evidence.notation.envelope import COSE_TYPE, JWS_TYPE, check_target
from registry_pipelines.evidence.notation.signers import CertifiedSigner, load_certified_signer
from registry_pipelines.evidence.notation.trust import Trust, read_trust
from registry_pipelines.evidence.notation.verify import read_envelope, verify_envelope
from registry_pipelines.evidence.timestamp_authority import TimestampAuthority
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import EMPTY, Descriptor, Manifest, manifest_bytes
from registry_pipelines.oci.media_types import NOTATION_SIGNATURE
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.protocol import Place
from registry_pipelines.sign.notation import NotationVerification, sign_notation, verify_notation
from tests.doubles.authorities import CODE, Issued, key_usage, make_root
from tests.evidence.forged import PREFIX, flipped, forged_cose, forged_jws, payload_of
from tests.evidence.parts import Listing, push_image, push_index
from tests.sign.notations import Notation

ROOT = make_root()
MIDDLE = ROOT.issue("middle", ca=True)
SIGNER = MIDDLE.issue("signer", uses=(CODE,))
TWIN = make_root().issue("middle", ca=True).issue("signer", uses=(CODE,))
"""Everything is named the same, and another made it."""
PROFILE = "arn:aws:signer:eu-west-1:111122223333:/signing-profiles/release"
SCHEME, EXPIRY, AUTHENTIC = f"{PREFIX}signingScheme", f"{PREFIX}expiry", f"{PREFIX}authenticSigningTime"


def attach(place: Place, subject: Descriptor, raw: bytes, media_type: str = JWS_TYPE, *, layers: int = 1) -> Descriptor:
    """An envelope as a signature of ``subject``, whatever it says."""
    push_blob(place, b"{}", media_type=NOTATION_SIGNATURE)
    manifest = Manifest(
        schema_version=2,
        media_type=media_types.OCI_MANIFEST,
        config=Descriptor(media_type=NOTATION_SIGNATURE, digest=EMPTY.digest, size=EMPTY.size),
        layers=(push_blob(place, raw, media_type=media_type),) * layers,
        subject=Descriptor(media_type=subject.media_type, digest=subject.digest, size=subject.size),
        annotations={"io.cncf.notary.x509chain.thumbprint#S256": "[]"},
    )
    stored = manifest_bytes(manifest)
    place.registry.put_manifest(place.repository, stored)
    return stored.descriptor


@pytest.fixture
def notation(peer: Callable[[str], str], tmp_path: Path) -> Notation:
    return Notation(peer("notation"), tmp_path / "notation-home")


@pytest.fixture
def trust(tmp_path: Path) -> Trust:
    return read_trust(Notation("", tmp_path / "ours").trust(ROOT))


@pytest.fixture
def signer(tmp_path: Path) -> CertifiedSigner:
    (tmp_path / "signer.key").write_bytes(SIGNER.key_pem)
    (tmp_path / "signer.pem").write_bytes(SIGNER.pem)
    return load_certified_signer(tmp_path / "signer.key", tmp_path / "signer.pem")


def verify(place: Place, subject: Descriptor, trust: Trust, **more: Any) -> NotationVerification:
    return verify_notation(place, subject, trust, revocation=lambda chain: "", **more)


Header = Mapping[Any, Any]
NOTHING: Header = {}


@dataclass
class Attack:
    """What is pushed, and the words it is refused with. make: gets the image, the envelope comes out."""

    name: str
    words: str
    make: Callable[[Descriptor], bytes]
    media_type: str = JWS_TYPE
    taken: bool = False
    """By notation 1.3.2: it looks at critical attributes only where a plugin verifies."""


def jws(
    name: str = "", words: str = "", header: Header = NOTHING, *, by: Issued = SIGNER, taken: bool = False, **more: Any
) -> Attack:
    return Attack(name, words, lambda image: forged_jws(by, payload_of(image), header, **more), JWS_TYPE, taken)


def cose(
    name: str = "", words: str = "", header: Header = NOTHING, *, by: Issued = SIGNER, taken: bool = False, **more: Any
) -> Attack:
    return Attack(name, words, lambda image: forged_cose(by, payload_of(image), header, **more), COSE_TYPE, taken)


OTHER_DIGEST = str(Digest.of(b"other"))
ATTACKS = [
    jws("unknown critical attribute", "not understood here: x.y", {"crit": [SCHEME, "x.y"], "x.y": 1}, taken=True),
    jws("critical attribute that is absent", "is marked as critical and not there", {"crit": [SCHEME, "x.y"]}),
    jws("no critical attributes", "no list of critical attributes", {"crit": []}),
    jws("critical is no list", "no list of critical attributes", {"crit": SCHEME}),
    jws("scheme not critical", "signingScheme is not marked as critical", {"crit": ["x.y"], "x.y": 1}),
    jws("expiry not critical", "expiry is not marked as critical", {EXPIRY: "2099-01-01T00:00:00Z"}),
    jws("a critical attribute that is no name", "no list of critical attributes", {"crit": [SCHEME, [SCHEME]]}),
    jws("a critical attribute that is a mapping", "no list of critical attributes", {"crit": [SCHEME, {}]}),
    jws(
        "a profile of AWS Signer that no signing authority vouches for",
        f"not understood here: {PROFILE_VERSION}",
        {"crit": [SCHEME, PROFILE_VERSION], PROFILE_VERSION: f"{PROFILE}/abcdefghij"},
        taken=True,
    ),
    jws("algorithm none", "the algorithm is 'none'", {"alg": "none"}),
    jws("a keyed hash", "the algorithm is 'HS256'", {"alg": "HS256"}),
    jws("another curve's algorithm", "the algorithm is 'ES384'", {"alg": "ES384"}),
    jws("PKCS#1 v1.5", "the algorithm is 'RS256'", {"alg": "RS256"}),
    jws("another payload type", "the payload is 'application/json'", {"cty": "application/json"}),
    jws("unknown scheme", "signing scheme is 'notary.x510'", {SCHEME: "notary.x510"}),
    jws("no scheme", "signing scheme is 'None'", {SCHEME: None}),
    jws("a time that is none", "no RFC 3339 time", {f"{PREFIX}signingTime": "yesterday"}),
    jws("an authority's time in the other scheme", "is not told as the scheme", {AUTHENTIC: "2026-01-01T00:00:00Z"}),
    jws(
        "an authority without any time",
        "is not told as the scheme",
        {SCHEME: "notary.x509.signingAuthority", f"{PREFIX}signingTime": None},
    ),
    jws("an authority without its time", "is not told as the scheme", {SCHEME: "notary.x509.signingAuthority"}),
    jws(
        "an authority that is not trusted as one",
        "it has no store for the scheme notary.x509.signingAuthority",
        {
            SCHEME: "notary.x509.signingAuthority",
            AUTHENTIC: "2026-01-01T00:00:00Z",
            f"{PREFIX}signingTime": None,
            "crit": [SCHEME, AUTHENTIC],
        },
    ),
    jws("expired", "expiry: the signature has expired", {EXPIRY: "2026-01-02T00:00:00Z", "crit": [SCHEME, EXPIRY]}),
    jws(
        "signature changed",
        "did not make this signature",
        after=lambda it: {**it, "signature": flipped(it["signature"])},
    ),
    jws(
        "signature in DER",
        "did not make this signature",
        after=lambda it: {**it, "signature": "MEUCIQ" + it["signature"]},
    ),
    jws("payload changed", "did not make this signature", after=lambda it: {**it, "payload": flipped(it["payload"])}),
    jws("no chain", "0 certificates", chain=[]),
    jws("leaf alone", "ends the chain and is not self-signed", chain=SIGNER.chain[:1]),
    jws("middle left out", "is not issued by", chain=[SIGNER.chain[0], SIGNER.chain[2]]),
    jws("chain upside down", "authority's", chain=SIGNER.chain[::-1]),
    jws("one certificate more", "not the last of its chain", chain=[*SIGNER.chain, ROOT.certificate]),
    jws("the chain of one of the same name", "did not make this signature", chain=TWIN.chain),
    jws("signed by one of the same name", "in a trust store of", by=TWIN),
    jws("our root below another's chain", "is not issued by", by=TWIN, chain=[*TWIN.chain[:2], ROOT.certificate]),
    jws(
        "a certificate for servers",
        "keyUsage",
        by=MIDDLE.issue("x", usage=key_usage("digital_signature", "key_encipherment")),
    ),
    jws(
        "an expired certificate",
        "was valid until",
        by=ROOT.issue("x", begins=timedelta(days=-2), ends=timedelta(days=-1)),
    ),
    jws("a certificate of tomorrow", "is not valid before", by=ROOT.issue("x", begins=timedelta(hours=5))),
    Attack(
        "another digest",
        "the signature is over",
        lambda image: forged_jws(SIGNER, payload_of(image, digest=OTHER_DIGEST)),
    ),
    Attack("another size", "the signature is over", lambda image: forged_jws(SIGNER, payload_of(image, size=1))),
    Attack(
        "another type", "the signature is over", lambda image: forged_jws(SIGNER, payload_of(image, mediaType="x/y"))
    ),
    Attack("no target", "not valid", lambda image: forged_jws(SIGNER, b"{}")),
    Attack("no JSON", "not valid", lambda image: b"{"),
    Attack("another form", "is no form of a Notation signature", lambda image: b"x", "application/pkcs7-signature"),
    cose("unknown critical attribute", "not understood here: x.y", {2: [SCHEME, "x.y"], "x.y": 1}, taken=True),
    cose("unknown critical number", "not understood here: 99", {2: [SCHEME, 99], 99: 1}, taken=True),
    cose("critical attribute that is absent", "is marked as critical and not there", {2: [SCHEME, 99]}),
    cose("a critical attribute that is no name", "no list of critical attributes", {2: [SCHEME, [SCHEME]]}),
    cose("no critical attributes", "no list of critical attributes", {2: None}),
    cose("expiry not critical", "expiry is not marked as critical", {EXPIRY: Tagged(1, 4102444800)}),
    cose("algorithm none", "the algorithm is ''", {1: None}),
    cose("another algorithm", "the algorithm is 'PS256'", {1: -37}),
    cose("another payload type", "the payload is 'text/plain'", {3: "text/plain"}),
    cose("payload changed", "did not make this signature", after=lambda it: Tagged(18, [*it[:2], it[2] + b" ", it[3]])),
    cose(
        "signature changed",
        "did not make this signature",
        after=lambda it: Tagged(18, [*it[:3], it[3][:-1] + bytes([it[3][-1] ^ 1])]),
    ),
    cose(
        "a byte in the middle of the signature",
        "did not make this signature",
        after=lambda it: Tagged(18, [*it[:3], it[3][:32] + bytes(1) + it[3][32:]]),
    ),
    cose("no tag", "no COSE_Sign1", after=lambda it: it),
    cose("three parts", "has 3 parts", after=lambda it: Tagged(18, it[:3])),
    cose("no chain", "0 certificates", chain=[]),
    cose("signed by one of the same name", "in a trust store of", by=TWIN),
]


IMAGE = Descriptor(media_type=media_types.OCI_MANIFEST, digest=Digest.of(b"image"), size=5)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{attack.media_type[12:]} {attack.name}")
def test_an_attack_is_refused_with_its_reason(trust: Trust, attack: Attack) -> None:
    statement, now = trust.statement_for("host/app"), datetime.now(UTC)
    with pytest.raises(SignatureInvalid) as refused:
        envelope = read_envelope(attack.make(IMAGE), attack.media_type)
        found = verify_envelope(envelope, trust, statement, now=now, revocation=lambda chain: "")
        check_target(found.target, IMAGE.digest, media_type=IMAGE.media_type, size=IMAGE.size)
    assert attack.words in str(refused.value)


@pytest.mark.peer("notation")
@pytest.mark.parametrize("attacks", [ATTACKS[::5], pytest.param(ATTACKS, marks=pytest.mark.long)], ids=["some", "all"])
def test_what_is_forged_without_a_fault_is_believed_and_with_one_notation_refuses_it_too(
    place: Place, trust: Trust, notation: Notation, attacks: list[Attack]
) -> None:
    """So that each attack fails for its own fault; the statement that notation and we read is the same."""
    notation.trust(ROOT)
    good = [jws(), cose()]
    for number, attack in enumerate([*good, *attacks]):
        image = push_image(place, f"app {number}")
        attach(place, image, attack.make(image), attack.media_type)
        done = notation.verify(f"{place}@{image.digest}")
        assert (done.returncode == 0) == (attack in good or attack.taken), (attack.name, done.stderr)
        if attack in good:
            assert len(verify(place, image, trust).signatures) == 1


def test_bad_ones_hide_no_good_one(place: Place, trust: Trust, signer: CertifiedSigner) -> None:
    image, other = push_image(place), push_image(place, "other")
    for attack in ATTACKS:
        attach(place, image, attack.make(image), attack.media_type)
    attach(place, image, forged_jws(SIGNER, payload_of(image)), layers=2)
    attach(place, image, b"[" * 100_000)
    attach(place, image, bytes(1024 * 1024 + 1))
    nameless = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"\x30\x02\xa3\x00")
    attach(place, image, forged_jws(make_root().issue("x", more=((nameless, False),)), payload_of(image)))
    for number in range(30):
        attach(place, image, b"%d" % number)
    good = sign_notation(place, image, signer)
    missing = Descriptor(media_type=media_types.OCI_MANIFEST, digest=Digest.of(b"gone"), size=4)
    flooded = Place(Listing(place, [missing]), place.repository)  # type: ignore[arg-type]
    found = verify(flooded, image, trust)
    assert [one.descriptor.digest for one in found.signatures] == [good.descriptor.digest]
    assert len(found.rejected) == len(ATTACKS) + 35
    with pytest.raises(EvidenceMissing, match="has no Notation signature"):
        verify(place, other, trust)


def test_a_certificate_of_the_store_does_not_make_a_profile_of_aws(tmp_path: Path) -> None:
    """Of a statement that trusts a company's authority and a profile of AWS Signer, whoever has any certificate of that
    authority could write the profile's name into a signature."""
    boss = "x509.subject: C=GB, ST=X, O=platform, CN=boss"
    trust = read_trust(Notation("", tmp_path / "both").trust(ROOT, trustedIdentities=[PROFILE, boss]))
    header = {"crit": [SCHEME, PROFILE_VERSION], PROFILE_VERSION: f"{PROFILE}/abcdefghij"}
    envelope = read_envelope(forged_jws(SIGNER, payload_of(IMAGE), header), JWS_TYPE)
    asked: dict[str, Any] = {"now": datetime.now(UTC), "revocation": lambda chain: "", "managed": lambda *_: ""}
    with pytest.raises(SignatureInvalid, match=f"not understood here: {PROFILE_VERSION}"):
        verify_envelope(envelope, trust, trust.statement_for("host/app"), **asked)


def test_a_signature_is_about_one_manifest(place: Place, trust: Trust, signer: CertifiedSigner) -> None:
    """Swapped to another image, and asked about what an index holds."""
    image, other = push_image(place), push_image(place, "other")
    index, children = push_index(place, "many")
    attach(place, other, forged_jws(SIGNER, payload_of(image)))
    sign_notation(place, index, signer)
    with pytest.raises(SignatureInvalid, match="the signature is over"):
        verify(place, other, trust)
    assert verify(place, index, trust).signatures
    for child in children:
        with pytest.raises(EvidenceMissing):
            verify(place, child, trust)


def test_a_signature_is_made_anew_when_it_says_less_than_is_wanted(place: Place, signer: CertifiedSigner) -> None:
    image, now = push_image(place), datetime.now(UTC)
    day, later = timedelta(days=1), now + timedelta(hours=13)
    assert sign_notation(place, image, signer, lasts=day, now=now).changed
    assert not sign_notation(place, image, signer, lasts=day, now=now + timedelta(hours=11)).changed
    assert sign_notation(place, image, signer, lasts=day, now=later).changed
    assert sign_notation(place, image, signer, now=now).changed
    assert not sign_notation(place, image, signer, now=later).changed
    assert sign_notation(place, image, signer, annotations={"a": "b"}).changed
    assert sign_notation(place, image, signer, form="cose").changed


def test_a_key_without_a_chain_that_is_believed_signs_nothing(tmp_path: Path) -> None:
    key, chain = tmp_path / "own.key", tmp_path / "own.pem"
    key.write_bytes(SIGNER.key_pem)
    bad: list[tuple[Issued, bytes | None, str]] = [
        (SIGNER, SIGNER.pem.split(b"-----BEGIN")[1].join([b"-----BEGIN", b""]), "does not end in its root"),
        (TWIN, None, "none of these certificates is of the signing key"),
        (MIDDLE.issue("x", key=SIGNER.key, ends=timedelta(minutes=-1)), None, "was valid until"),
        (MIDDLE.issue("x", key=SIGNER.key, usage=key_usage("key_agreement")), None, "keyUsage"),
    ]
    for issued, raw, words in bad:
        chain.write_bytes(raw or issued.pem)
        with pytest.raises(InputError, match=words):
            load_certified_signer(key, chain)


def test_an_authority_that_does_not_answer_stops_the_signature(place: Place, signer: CertifiedSigner) -> None:
    image = push_image(place)
    nobody = TimestampAuthority("http://127.0.0.1:1/tsa", [ROOT.certificate])
    with pytest.raises(Unavailable, match=r"timestamp authority 127.0.0.1: it cannot be reached"):
        sign_notation(place, image, signer, timestamper=nobody)
    assert not place.registry.referrers(place.repository, image.digest)
