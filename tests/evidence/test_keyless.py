"""Bundles of identities: Sigstore's own vectors, and those of a Sigstore of our own beside `cosign` and `sigstore`."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import tarfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import InputError, KeyRefused, SignatureInvalid
from registry_pipelines.evidence.artifacts import attach
from registry_pipelines.evidence.attestations import attest, read_attestations
from registry_pipelines.evidence.attestors import Attestor, Attestors
from registry_pipelines.evidence.bundles import MessageSignature, read_bundle
from registry_pipelines.evidence.dsse import Envelope
from registry_pipelines.evidence.identity_rules import IdentityRule
from registry_pipelines.evidence.key_files import read_public_keys
from registry_pipelines.evidence.keyless.believed import Keyless, load_keyless
from registry_pipelines.evidence.keyless.trust_root import TrustRoot, load_trust_roots, read_trust_root
from registry_pipelines.evidence.keyless.verify import KeylessSignature, verify_keyless
from registry_pipelines.evidence.keys import KeySet, load_verifier
from registry_pipelines.evidence.predicates import CYCLONEDX_TYPE, PROVENANCE_TYPE, SIGNATURE_TYPE
from registry_pipelines.evidence.statements import write_statement
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import SIGSTORE_BUNDLE
from registry_pipelines.registry.protocol import Place
from registry_pipelines.sign.cosign import verify_image
from tests.doubles.authorities import CODE, STAMPS, make_root
from tests.doubles.sigstore import ISSUER, WORKFLOW, Log, PrivateSigstore, b64, changed, spki
from tests.evidence.parts import Cosign, Key
from tests.needs import needed_module

VECTORS = Path(__file__).parent.parent / "data" / "bundle-vectors.tar.xz"
BEACON = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/"
DEFAULT = (
    f"{BEACON}extremely-dangerous-oidc-beacon.yml@refs/heads/main",
    "https://token.actions.githubusercontent.com",
)
PAYLOAD = write_statement(PROVENANCE_TYPE, {"a": 1}, subjects=[], name="app")
FORMS: tuple[tuple[Log, bool], ...] = (("rekor1", False), ("rekor1", True), ("rekor2", True))


def read_vectors() -> dict[str, dict[str, bytes]]:
    """The files of each vector by their names; its artifact and trust root are there always."""
    found: dict[str, dict[str, bytes]] = {}
    with tarfile.open(VECTORS) as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is not None:
                _, *folder, name = member.name.split("/")
                found.setdefault("/".join(folder), {})[name] = file.read()
    common = found.pop("")
    usual = {"artifact": common["a.txt"], "trusted_root.json": common["trusted_root.json"]}
    return {name: {**usual, **files} for name, files in found.items()}


VECTOR_FILES = read_vectors()


def judge(files: dict[str, bytes]) -> None:
    """Raise what makes a vector unbelievable."""
    root = read_trust_root(files["trusted_root.json"], where="trusted_root.json")
    bundle = read_bundle(files["bundle.sigstore.json"])
    if "key.pub" in files:
        signature = bundle.content
        assert isinstance(signature, MessageSignature)
        KeySet(read_public_keys(files["key.pub"], where="key.pub")).verify(files["artifact"], signature.signature)
        return
    found = verify_keyless(bundle, root, content=files["artifact"])
    subject = files.get("identity", DEFAULT[0].encode()).decode().strip()
    issuer = files.get("issuer", DEFAULT[1].encode()).decode().strip()
    if (found.identity.subject, found.identity.issuer) != (subject, issuer):
        raise SignatureInvalid("another identity")
    if isinstance(bundle.content, Envelope):
        subjects = json.loads(bundle.envelope.payload)["subject"]
        if hashlib.sha256(files["artifact"]).hexdigest() not in {each["digest"]["sha256"] for each in subjects}:
            raise SignatureInvalid("another artifact")


@pytest.mark.parametrize("name", sorted(VECTOR_FILES))
def test_vectors_of_sigstore(name: str) -> None:
    if name.endswith("_fail"):
        with pytest.raises((SignatureInvalid, InputError)):
            judge(VECTOR_FILES[name])
    else:
        judge(VECTOR_FILES[name])


def test_all_vectors_are_there() -> None:
    assert (len(VECTOR_FILES), sum(name.endswith("_fail") for name in VECTOR_FILES)) == (70, 49)


@pytest.fixture(scope="session")
def private(tmp_path_factory: pytest.TempPathFactory, peer: Callable[[str], str]) -> PrivateSigstore:
    needed_module("rfc3161_client", "dev")
    return PrivateSigstore(tmp_path_factory.mktemp("sigstore") / "stamps", peer("openssl"))


@pytest.fixture(scope="session")
def trusted(private: PrivateSigstore) -> TrustRoot:
    return root_of(private.trust_root())


def root_of(document: dict[str, Any]) -> TrustRoot:
    return read_trust_root(json.dumps(document).encode(), where="trusted_root.json")


def verified(bundle: dict[str, Any], root: TrustRoot) -> KeylessSignature:
    return verify_keyless(read_bundle(json.dumps(bundle).encode()), root)


def asked_of_sigstore(bundle: dict[str, Any], root: dict[str, Any], folder: Path) -> bool:
    """What the Python package `sigstore` says of the same bundle, for the same identity."""
    from sigstore.errors import Error
    from sigstore.models import Bundle, TrustedRoot
    from sigstore.verify import Verifier, policy

    path = folder / "root.json"
    path.write_text(json.dumps(root))
    try:
        verifier = Verifier(trusted_root=TrustedRoot.from_file(str(path)))
        verifier.verify_dsse(Bundle.from_json(json.dumps(bundle)), policy.Identity(identity=WORKFLOW, issuer=ISSUER))
    except (Error, ValueError):
        return False
    return True


@pytest.mark.parametrize(("log", "stamped"), FORMS)
def test_what_our_sigstore_makes_is_believed_by_us_and_by_sigstores_own(
    private: PrivateSigstore, trusted: TrustRoot, tmp_path: Path, log: Log, stamped: bool
) -> None:
    needed_module("sigstore", "dev")
    bundle = private.sign(PAYLOAD, log=log, stamped=stamped)
    found = verified(bundle, trusted)
    assert (found.identity.issuer, found.identity.subject) == (ISSUER, WORKFLOW)
    assert abs(datetime.now(UTC) - found.at) < timedelta(minutes=5)
    assert asked_of_sigstore(bundle, private.trust_root(), tmp_path)


def test_entries_anywhere_in_a_log_are_found(private: PrivateSigstore, trusted: TrustRoot) -> None:
    """Proofs of trees of all shapes: seventeen sizes, and an early entry of a tree that has grown."""
    first = private.sign(PAYLOAD)
    for _ in range(17):
        verified(private.sign(PAYLOAD), trusted)
    entry = first["verificationMaterial"]["tlogEntries"][0]
    grown = changed(
        first, "verificationMaterial.tlogEntries.0.inclusionProof", private.proof(int(entry["logIndex"]), "rekor1")
    )
    assert verified(grown, trusted).identity.subject == WORKFLOW


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["P-384", "P-521", "Ed25519", "RSA"],
)
def test_other_kinds_of_keys(private: PrivateSigstore, trusted: TrustRoot, key: Any) -> None:
    bundle = private.sign(PAYLOAD, private.certificate(key=key))
    assert verified(bundle, trusted).identity.subject == WORKFLOW
    with pytest.raises(SignatureInvalid, match="the signature is not that"):
        verified(changed(bundle, "dsseEnvelope.payload", b64(PAYLOAD + b" ")), trusted)


ENTRY, AUTHORITY = "verificationMaterial.tlogEntries.0", "certificateAuthorities.0.certChain"


def _flipped(bundle: dict[str, Any], path: str) -> dict[str, Any]:
    """One bit of a field in base64."""
    inner: Any = bundle
    for step in path.split("."):
        inner = inner[int(step) if step.isdigit() else step]
    raw = bytearray(base64.b64decode(inner))
    raw[len(raw) // 2] ^= 1
    return changed(bundle, path, b64(bytes(raw)))


Make = Callable[[PrivateSigstore], dict[str, Any]]
FAULTS: dict[str, tuple[Make, str]] = {
    "another payload": (
        lambda s: changed(s.sign(PAYLOAD), "dsseEnvelope.payload", b64(PAYLOAD.replace(b"1", b"2"))),
        "the signature is not that of the bundle's certificate",
    ),
    "another payload type": (
        lambda s: changed(s.sign(PAYLOAD), "dsseEnvelope.payloadType", "text/plain"),
        "the signature is not that of the bundle's certificate",
    ),
    "another's certificate": (
        lambda s: changed(
            s.sign(PAYLOAD), "verificationMaterial.certificate", s.sign(PAYLOAD)["verificationMaterial"]["certificate"]
        ),
        "the signature is not that of the bundle's certificate",
    ),
    "a certificate of another authority": (
        lambda s: s.sign(PAYLOAD, s.certificate(authority=make_root("other").issue("sigstore", ca=True, uses=(CODE,)))),
        "is issued by nobody who is trusted",
    ),
    "a certificate that had ended": (
        lambda s: s.sign(PAYLOAD, s.certificate(begins=timedelta(hours=-2), ends=timedelta(hours=-1))),
        "was valid until",
    ),
    "a certificate that had not begun": (
        lambda s: s.sign(PAYLOAD, s.certificate(begins=timedelta(hours=1), ends=timedelta(hours=2))),
        "is not valid before",
    ),
    "a certificate that was not published": (
        lambda s: s.sign(PAYLOAD, s.certificate(published=False)),
        "brings no proof that it was published",
    ),
    "an envelope with two signatures": (
        lambda s: changed(
            s.sign(PAYLOAD), "dsseEnvelope.signatures", s.sign(PAYLOAD)["dsseEnvelope"]["signatures"] * 2
        ),
        "more than one signature",
    ),
    "no log entry": (
        lambda s: changed(s.sign(PAYLOAD, stamped=True), "verificationMaterial.tlogEntries", []),
        "the bundle has no log entry",
    ),
    "an entry of another signature": (
        lambda s: changed(
            s.sign(PAYLOAD),
            "verificationMaterial.tlogEntries",
            s.sign(PAYLOAD)["verificationMaterial"]["tlogEntries"],
        ),
        "the log entry is of another signature",
    ),
    "an entry with another time": (
        lambda s: changed(s.sign(PAYLOAD), f"{ENTRY}.integratedTime", "1700000000"),
        "the log did not sign the inclusion promise",
    ),
    "an entry with another index": (
        lambda s: changed(s.sign(PAYLOAD), f"{ENTRY}.logIndex", "0"),
        "the log did not sign the inclusion promise",
    ),
    "an entry without its proof": (
        lambda s: changed(s.sign(PAYLOAD), f"{ENTRY}.inclusionProof", None),
        "no inclusion proof",
    ),
    "a proof without its checkpoint": (
        lambda s: changed(s.sign(PAYLOAD), f"{ENTRY}.inclusionProof.checkpoint", None),
        "no checkpoint",
    ),
    "a damaged hash of the proof": (
        lambda s: _flipped(s.sign(PAYLOAD), f"{ENTRY}.inclusionProof.hashes.0"),
        "does not lead from the log entry",
    ),
    "a damaged promise": (
        lambda s: _flipped(s.sign(PAYLOAD), f"{ENTRY}.inclusionPromise.signedEntryTimestamp"),
        "the log did not sign the inclusion promise",
    ),
    "an entry of another log": (
        lambda s: changed(s.sign(PAYLOAD), f"{ENTRY}.logId.keyId", b64(b"x" * 32)),
        "a log that the trust root does not name",
    ),
    "an entry of another kind": (
        lambda s: changed(s.sign(PAYLOAD), f"{ENTRY}.kindVersion.version", "0.0.2"),
        "of another kind than the bundle says",
    ),
    "a time from the log alone, where it promises none": (
        lambda s: s.sign(PAYLOAD, log="rekor2"),
        "nobody whom the trust root names says when",
    ),
    "a timestamp of another signature": (
        lambda s: changed(
            s.sign(PAYLOAD, log="rekor2", stamped=True),
            "verificationMaterial.timestampVerificationData",
            s.sign(PAYLOAD, log="rekor2", stamped=True)["verificationMaterial"]["timestampVerificationData"],
        ),
        "the timestamp is of other bytes",
    ),
    "a key beside the certificate": (
        lambda s: changed(s.sign(PAYLOAD), "verificationMaterial.publicKey", {"hint": ""}),
        "by none of key and certificate, or by both",
    ),
    "a chain in a bundle of version 0.3": (
        lambda s: changed(
            changed(s.sign(PAYLOAD), "verificationMaterial.certificate", None),
            "verificationMaterial.x509CertificateChain",
            {"certificates": []},
        ),
        "has one `certificate` and no chain",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_refused_by_us_and_by_sigstores_own(
    private: PrivateSigstore, trusted: TrustRoot, tmp_path: Path, fault: str
) -> None:
    needed_module("sigstore", "dev")
    make, reason = FAULTS[fault]
    bundle = make(private)
    with pytest.raises(SignatureInvalid, match=reason):
        verified(bundle, trusted)
    assert not asked_of_sigstore(bundle, private.trust_root(), tmp_path)


def test_a_trust_root_asks_for_what_it_names(private: PrivateSigstore) -> None:
    """A private Sigstore may have no logs; never may it have no clock."""
    bare = changed(
        private.sign(PAYLOAD, private.certificate(published=False), log="", stamped=True), "mediaType", SIGSTORE_BUNDLE
    )
    assert verified(bare, root_of(private.trust_root("tlogs", "ctlogs"))).identity.subject == WORKFLOW
    with pytest.raises(SignatureInvalid, match="no log entry"):
        verified(bare, root_of(private.trust_root("ctlogs")))
    with pytest.raises(SignatureInvalid, match="no proof that it was published"):
        verified(bare, root_of(private.trust_root("tlogs")))
    unstamped = private.sign(PAYLOAD, log="")
    with pytest.raises(SignatureInvalid, match="says when the bundle was signed"):
        verified(unstamped, root_of(private.trust_root("tlogs", "ctlogs")))
    with pytest.raises(InputError, match="nobody who says when something was signed"):
        root_of(private.trust_root("tlogs", "timestampAuthorities"))
    with pytest.raises(InputError, match="names no certificate authority"):
        root_of(private.trust_root("certificateAuthorities"))
    stamped = private.sign(PAYLOAD, stamped=True)
    other = root_of(private.trust_root("timestampAuthorities"))
    assert verified(stamped, other).identity.subject == WORKFLOW, "the log's own time is enough"


def test_nothing_counts_outside_the_days_of_the_trust_root(private: PrivateSigstore) -> None:
    bundle = private.sign(PAYLOAD, stamped=True)
    now = datetime.now(UTC)
    for window in (
        {"start": "2020-01-01T00:00:00Z", "end": f"{now - timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"},
        {"start": f"{now + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"},
    ):
        document = private.trust_root()
        for section in ("tlogs", "ctlogs"):
            changed_root = copy.deepcopy(document)
            for each in changed_root[section]:
                each["publicKey"]["validFor"] = window
            with pytest.raises(SignatureInvalid):
                verified(bundle, root_of(changed_root))
        authorities = copy.deepcopy(document)
        authorities["certificateAuthorities"][0]["validFor"] = window
        with pytest.raises(SignatureInvalid, match="did not believe the certificate's authority"):
            verified(bundle, root_of(authorities))
        stampers = copy.deepcopy(document)
        stampers["timestampAuthorities"][0]["validFor"] = window
        with pytest.raises(SignatureInvalid, match="says when the bundle was signed"):
            verified(private.sign(PAYLOAD, log="rekor2", stamped=True), root_of(stampers))


def test_a_timestamp_counts_of_the_authority_alone_that_the_root_names(private: PrivateSigstore) -> None:
    """Not of another certificate that the same root issued."""
    document = private.trust_root()
    sibling = make_root("stamps root").issue("stamps", uses=(STAMPS,))
    listed = document["timestampAuthorities"][0]["certChain"]["certificates"]
    listed[0]["rawBytes"] = b64(sibling.certificate.public_bytes(Encoding.DER))
    with pytest.raises(SignatureInvalid, match="says when the bundle was signed"):
        verified(private.sign(PAYLOAD, log="rekor2", stamped=True), root_of(document))


RULE = IdentityRule(issuer=ISSUER, identity=WORKFLOW)


@pytest.mark.parametrize(
    ("pattern", "subject", "held"),
    [
        (WORKFLOW, WORKFLOW, True),
        (WORKFLOW, f"{WORKFLOW}4", False),
        (WORKFLOW, f"x{WORKFLOW}", False),
        (WORKFLOW.replace(".", "!"), WORKFLOW, False),
        (WORKFLOW.upper(), WORKFLOW, False),
        (WORKFLOW.replace("v1.2.3", "v*"), WORKFLOW, True),
        (WORKFLOW.replace("v1.2.3", "v*"), WORKFLOW.replace("v1.2.3", "v"), True),
        (WORKFLOW.replace("v1.2.3", "v*.*.*"), WORKFLOW, True),
        (WORKFLOW.replace("v1.2.3", "v*.*.*.*"), WORKFLOW, False),
        ("https://git.example/*/app/.github/workflows/*release*.yml@refs/tags/v*.3", WORKFLOW, True),
        ("*a*b*b@x", "aabxbb@x", True),
        ("*a" * 40 + "@x", "a" * 900 + "b@x", False),
        (WORKFLOW.replace("v1.2.3", "v*"), f"{WORKFLOW}/../../heads/evil", False),
        ("https://git.example/team/*", WORKFLOW, False),
        ("https://git.example/team/*", "https://git.example/team/app@evil", False),
        ("*@platform.example", "ci@platform.example", True),
        ("*@platform.example", "ci@platform.example@evil.example", False),
    ],
)
def test_which_identities_a_rule_is_about(pattern: str, subject: str, held: bool) -> None:
    rule = IdentityRule(issuer=ISSUER, identity=pattern)
    assert rule.holds(ISSUER, subject) is held
    assert not rule.holds("https://token.example.evil", subject)


def keyless_set(root: TrustRoot, *rules: IdentityRule, **roles: Any) -> KeySet:
    return KeySet([], {role: [] for role in roles}, keyless=Keyless([root], rules, roles))  # type: ignore[misc]


def attach_bundle(place: Place, subject: Descriptor, bundle: dict[str, Any]) -> Descriptor:
    raw = json.dumps(bundle).encode()
    return attach(place, subject=subject, artifact_type=SIGSTORE_BUNDLE, content=raw, media_type=SIGSTORE_BUNDLE)


def about(image: Descriptor, kind: str) -> bytes:
    return write_statement(kind, {}, subjects=[image.digest], name="app")


def test_an_identity_vouches_for_its_role_alone(
    place: Place, image: Descriptor, private: PrivateSigstore, trusted: TrustRoot, key: Key
) -> None:
    """Beside keys: a workflow builds, a key does everything else."""
    for kind in (PROVENANCE_TYPE, CYCLONEDX_TYPE, SIGNATURE_TYPE):
        attach_bundle(place, image, private.sign(about(image, kind)))
        attest(place, image, kind, {"by": "key"}, key.signer)
    pair = read_public_keys(key.public.read_bytes(), where="")
    both = KeySet(pair, {"builder": []}, keyless=Keyless([trusted], [], {"builder": [RULE]}))
    found = read_attestations(place, image.digest, both)
    name = f"keyless:{ISSUER} {WORKFLOW}"
    assert {(each.predicate_type, each.key_id) for each in found.verified} == {
        (PROVENANCE_TYPE, name),
        (CYCLONEDX_TYPE, key.signer.key_id),
        (SIGNATURE_TYPE, key.signer.key_id),
    }
    assert all("which is trusted, but not as" in each.reason for each in found.rejected)
    assert any(
        f"it is signed by {name}, which is trusted, but not as scanner" in each.reason for each in found.rejected
    )
    assert both.believed(PROVENANCE_TYPE) == (name,)
    every = keyless_set(trusted, RULE)
    assert [each.key_id for each in verify_image(place, image.digest, every).signatures] == [name]
    nobody = keyless_set(trusted, IdentityRule(issuer=ISSUER, identity="ci@platform.example"))
    with pytest.raises(SignatureInvalid, match=f"it is signed by {name}, who is not believed"):
        verify_image(place, image.digest, nobody)


def test_an_identity_counts_as_an_attestor(
    place: Place, image: Descriptor, private: PrivateSigstore, trusted: TrustRoot, key: Key
) -> None:
    """Under a trust policy the build system's word alone is provenance, and it has no key."""
    attach_bundle(place, image, private.sign(about(image, PROVENANCE_TYPE)))
    attest(place, image, PROVENANCE_TYPE, {"by": "key"}, key.signer)
    system = Attestor("build-system", ("provenance",), identities=(RULE,))
    pair = read_public_keys(key.public.read_bytes(), where="")
    known = KeySet(pair, attestors=Attestors({"build-system": system}), keyless=Keyless([trusted]))
    found = read_attestations(place, image.digest, known.under(["build-system"]))
    assert [each.key_id for each in found.verified] == [f"keyless:{ISSUER} {WORKFLOW}"]
    assert known.counts_as(found.verified[0].key_id, "build-system", PROVENANCE_TYPE)
    assert not known.counts_as(key.signer.key_id, "build-system", PROVENANCE_TYPE)
    assert not known.counts_as(f"keyless:{ISSUER} {WORKFLOW}4", "build-system", PROVENANCE_TYPE)
    assert [each.key_id for each in read_attestations(place, image.digest, known).verified] == [key.signer.key_id]


def test_a_damaged_bundle_of_an_identity_hides_no_good_one(
    place: Place, image: Descriptor, private: PrivateSigstore, trusted: TrustRoot
) -> None:
    good = private.sign(about(image, PROVENANCE_TYPE))
    attach_bundle(place, image, _flipped(good, f"{ENTRY}.inclusionPromise.signedEntryTimestamp"))
    attach_bundle(place, image, good)
    attach_bundle(place, image, private.sign(about(image, PROVENANCE_TYPE), private.certificate("evil@other.example")))
    found = read_attestations(place, image.digest, keyless_set(trusted, RULE))
    assert len(found.verified) == 1 and len(found.rejected) == 2


def test_without_rules_a_certificate_counts_as_its_key_does(
    place: Place, image: Descriptor, private: PrivateSigstore, trusted: TrustRoot, tmp_path: Path, key: Key
) -> None:
    signer = private.certificate()
    attach_bundle(place, image, private.sign(about(image, PROVENANCE_TYPE), signer))
    assert not read_attestations(place, image.digest, key.verifier).verified
    public = read_public_keys(
        signer.certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), where=""
    )
    assert len(read_attestations(place, image.digest, KeySet(public)).verified) == 1
    rules = Keyless([trusted], [IdentityRule(issuer=ISSUER, identity="nobody")], {})
    assert len(read_attestations(place, image.digest, KeySet(public, keyless=rules)).verified) == 1
    key_id = f"sha256:{hashlib.sha256(spki(signer.key)).hexdigest()}"
    (tmp_path / "revoked.txt").write_text(f"{key_id} a runner was taken over\n")
    revoked = load_verifier([], revoked=tmp_path / "revoked.txt", keyless=Keyless([trusted], [RULE], {}))
    found = read_attestations(place, image.digest, revoked)
    assert not found.verified and "a runner was taken over" in found.rejected[0].reason
    with pytest.raises(KeyRefused):
        revoked.verify_bundle(read_bundle(json.dumps(private.sign(PAYLOAD, signer)).encode()))


def test_several_trust_roots_in_one_file(private: PrivateSigstore, tmp_path: Path) -> None:
    path = tmp_path / "roots.jsonl"
    public = json.dumps(json.loads(VECTOR_FILES["happy-path-v0.3"]["trusted_root.json"]))
    path.write_text(f"{public}\n{json.dumps(private.trust_root())}\n")
    believed = KeySet([], keyless=load_keyless(path, [RULE], {}))
    name = believed.verify_bundle(read_bundle(json.dumps(private.sign(PAYLOAD)).encode()))
    assert name == (f"keyless:{ISSUER} {WORKFLOW}",)
    path.write_text(json.dumps(private.trust_root(), indent=1))
    assert len(load_trust_roots(path)) == 1
    path.write_text(f"{public}\n{{\n")
    with pytest.raises(InputError, match="the trust root cannot be read"):
        load_trust_roots(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda root: {**root, "mediaType": "text/plain"}, "`mediaType` is 'text/plain'"),
        (lambda root: changed(root, "tlogs.0.publicKey.validFor.start", "yesterday"), "Invalid isoformat"),
        (lambda root: changed(root, "tlogs.0.publicKey.validFor.start", "2020-01-01T00:00:00"), "has no time zone"),
        (lambda root: changed(root, "tlogs.0.publicKey.rawBytes", "AAAA"), "cannot be read"),
        (lambda root: changed(root, "tlogs.0.publicKey.rawBytes", "?"), "is not base64"),
        (lambda root: changed(root, f"{AUTHORITY}.certificates", []), "has no certificate"),
        (
            lambda root: changed(root, "certificateAuthorities.0.certChain.certificates.0.rawBytes", "AAAA"),
            "certificate",
        ),
    ],
)
def test_a_trust_root_is_believed_whole_or_refused(
    private: PrivateSigstore, change: Callable[[dict[str, Any]], dict[str, Any]], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        root_of(change(private.trust_root()))


@settings(max_examples=60)
@given(st.data())
def test_any_cut_or_changed_byte_is_refused_in_our_words(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(name for name in VECTOR_FILES if not name.endswith("_fail"))))
    files = VECTOR_FILES[name]
    raw = bytearray(files["bundle.sigstore.json"])
    at = data.draw(st.integers(0, len(raw) - 1))
    if data.draw(st.booleans()):
        raw = raw[:at]
    else:
        raw[at] = data.draw(st.integers(0, 255))
    with suppress(SignatureInvalid):
        judge({**files, "bundle.sigstore.json": bytes(raw)})


FIELDS = ("data", "signature", "hash", "content", "signatures", "publicKey", "hashedRekordV002", "dsseV002", "verifier")
KINDS = [
    ("dsse", "0.0.1"),
    ("dsse", "0.0.2"),
    ("hashedrekord", "0.0.1"),
    ("hashedrekord", "0.0.2"),
    ("intoto", "0.0.2"),
]


def _inner(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4)


@settings(max_examples=60)
@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8), _inner, max_leaves=12),
    st.sampled_from(KINDS),
)
def test_any_log_entry_is_refused_in_our_words(spec: Any, kind: tuple[str, str]) -> None:
    files = VECTOR_FILES["happy-path-v0.3"]
    bundle = json.loads(files["bundle.sigstore.json"])
    body = json.dumps({"kind": kind[0], "apiVersion": kind[1], "spec": spec}).encode()
    bundle = changed(bundle, f"{ENTRY}.canonicalizedBody", b64(body))
    bundle = changed(bundle, f"{ENTRY}.kindVersion", {"kind": kind[0], "version": kind[1]})
    with pytest.raises(SignatureInvalid, match="log entry"):
        judge({**files, "bundle.sigstore.json": json.dumps(bundle).encode()})


@pytest.mark.peer("cosign")
@pytest.mark.parametrize(("log", "stamped"), FORMS)
def test_cosign_believes_the_same_bundles(
    place: Place,
    image: Descriptor,
    private: PrivateSigstore,
    trusted: TrustRoot,
    cosign: Cosign,
    log: Log,
    stamped: bool,
) -> None:
    attach_bundle(place, image, private.sign(about(image, PROVENANCE_TYPE), log=log, stamped=stamped))
    (cosign.home / "root.json").write_text(json.dumps(private.trust_root()))
    options = ["--trusted-root", "root.json", "--certificate-oidc-issuer", ISSUER, "--type", "slsaprovenance1"]
    options += ["--use-signed-timestamps"] if stamped else []
    name = f"{place}@{image.digest}"
    for subject, believed in ((WORKFLOW, True), (WORKFLOW + "4", False)):
        asked = cosign("verify-attestation", *options, "--certificate-identity", subject, name)
        assert (asked.returncode == 0) is believed, asked.stderr
        rules = keyless_set(trusted, IdentityRule(issuer=ISSUER, identity=subject))
        assert bool(read_attestations(place, image.digest, rules).verified) is believed
