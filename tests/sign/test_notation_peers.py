"""Proof by the real notation, in both directions and both forms, on a registry with the referrers API and on one
without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from registry_pipelines.errors import EvidenceMissing, InputError, SignatureInvalid
from registry_pipelines.evidence.notation.signers import CertifiedSigner, Form, certify, load_certified_signer
from registry_pipelines.evidence.notation.trust import read_trust
from registry_pipelines.evidence.timestamp_authority import TimestampAuthority
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import Place
from registry_pipelines.sign.notation import sign_notation, verify_notation
from tests.doubles.authorities import CODE, STAMPS, Issued, OpensslTimestamps, make_root, make_self_signed
from tests.evidence.parts import Key, push_image, push_index
from tests.sign.notations import Notation, serve_timestamps

pytestmark = pytest.mark.peer("notation", "docker-registry", "openssl")
FORMS: list[Form] = ["jws", "cose"]
ROOT = make_root()
MIDDLE = ROOT.issue("middle", ca=True)
SIGNER = MIDDLE.issue("signer", uses=(CODE,))
OTHER = make_root("another")


@pytest.fixture
def notation(peer: Callable[[str], str], tmp_path: Path) -> Notation:
    return Notation(peer("notation"), tmp_path / "notation-home")


@pytest.fixture
def stamps(peer: Callable[[str], str], tmp_path: Path) -> Iterator[tuple[str, Issued]]:
    """A timestamp authority's address, and its root."""
    root = make_root("tsa root")
    authority = OpensslTimestamps(peer("openssl"), tmp_path / "tsa", root.issue("tsa", uses=(STAMPS,)))
    with serve_timestamps(authority) as address:
        yield address, root


def signer_of(issued: Issued, folder: Path) -> CertifiedSigner:
    (folder / "signer.key").write_bytes(issued.key_pem)
    (folder / "signer.pem").write_bytes(issued.pem)
    return load_certified_signer(folder / "signer.key", folder / "signer.pem")


def name_of(place: Place, digest: Digest) -> str:
    return f"{place}@{digest}"


def not_revoked(_chain: object) -> str:
    return ""


@pytest.mark.parametrize("form", FORMS)
def test_notation_verifies_what_we_sign(any_place: Place, notation: Notation, tmp_path: Path, form: Form) -> None:
    image, unsigned = push_image(any_place), push_image(any_place, "unsigned")
    index, children = push_index(any_place, "many")
    signer = signer_of(SIGNER, tmp_path)
    for one in (image, index):
        assert sign_notation(any_place, one, signer, form=form, annotations={"ci": "x"}).changed
        assert not sign_notation(any_place, one, signer, form=form, annotations={"ci": "x"}).changed
    notation.trust(ROOT, registryScopes=[str(any_place)])
    for one in (image, index):
        verified = notation.verify(name_of(any_place, one.digest))
        assert verified.returncode == 0, verified.stderr
    for one in (unsigned, children[0]):
        assert "no signature is associated" in notation.verify(name_of(any_place, one.digest)).stderr
    notation.trust(OTHER)
    refused = notation.verify(name_of(any_place, image.digest))
    assert refused.returncode != 0
    assert "signature verification failed for all the signatures" in refused.stderr


@pytest.mark.parametrize("form", FORMS)
def test_we_verify_what_notation_signs(any_place: Place, notation: Notation, form: Form) -> None:
    image, unsigned = push_image(any_place), push_image(any_place, "unsigned")
    flags = ["--signature-format", form, "--user-metadata", "ci=x", "--expiry", "24h"]
    signed = notation.sign(SIGNER, name_of(any_place, image.digest), *flags)
    assert signed.returncode == 0, signed.stderr
    trust = read_trust(notation.trust(ROOT, trustedIdentities=["x509.subject: C=GB, ST=X, O=platform, CN=signer"]))
    found = verify_notation(any_place, image, trust, revocation=not_revoked)
    (signature,) = found.signatures
    assert (signature.form, signature.subject) == (form, "C=GB,ST=X,O=platform,CN=signer")
    assert (signature.verified.target.annotations, signature.verified.logged) == ({"ci": "x"}, ())
    assert signature.verified.chain == SIGNER.chain
    assert signature.verified.expiry is not None
    late = signature.verified.expiry + timedelta(seconds=1)
    with pytest.raises(SignatureInvalid, match="expiry: the signature has expired"):
        verify_notation(any_place, image, trust, revocation=not_revoked, now=late)
    with pytest.raises(EvidenceMissing):
        verify_notation(any_place, unsigned, trust, revocation=not_revoked)
    for trusted in (
        read_trust(notation.trust(OTHER)),
        read_trust(notation.trust(ROOT, trustedIdentities=["x509.subject: C=GB, ST=X, O=other"])),
    ):
        with pytest.raises(SignatureInvalid, match="authenticity"):
            verify_notation(any_place, image, trusted, revocation=not_revoked)


KEYS = [rsa.generate_private_key(65537, 2048), rsa.generate_private_key(65537, 3072)]
KEYS += [ec.generate_private_key(curve()) for curve in (ec.SECP384R1, ec.SECP521R1)]


@pytest.mark.parametrize(
    ("key", "form"), list(zip(KEYS, FORMS * 2, strict=True)), ids=["RSA 2048", "RSA 3072", "P-384", "P-521"]
)
def test_every_kind_of_key_in_both_directions(
    place: Place, notation: Notation, tmp_path: Path, key: object, form: Form
) -> None:
    leaf = ROOT.issue("signer", key=key)
    ours, theirs = push_image(place, "ours"), push_image(place, "theirs")
    sign_notation(place, ours, signer_of(leaf, tmp_path), form=form)
    signed = notation.sign(leaf, name_of(place, theirs.digest), "--signature-format", form)
    assert signed.returncode == 0, signed.stderr
    trust = read_trust(notation.trust(ROOT))
    verified = notation.verify(name_of(place, ours.digest))
    assert verified.returncode == 0, verified.stderr
    for one in (ours, theirs):
        assert len(verify_notation(place, one, trust, revocation=not_revoked).signatures) == 1


def test_the_key_that_signs_everything_else_signs_this_too(
    place: Place, notation: Notation, tmp_path: Path, key: Key, other_key: Key
) -> None:
    private = serialization.load_pem_private_key(key.path.read_bytes(), None)
    issued, image = MIDDLE.issue("person", key=private), push_image(place)
    chain = tmp_path / "chain.pem"
    chain.write_bytes(b"".join(one.public_bytes(serialization.Encoding.PEM) for one in reversed(issued.chain)))
    sign_notation(place, image, certify(key.signer, chain))
    notation.trust(ROOT)
    verified = notation.verify(name_of(place, image.digest))
    assert verified.returncode == 0, verified.stderr
    with pytest.raises(InputError, match="none of these certificates is of the signing key"):
        certify(other_key.signer, chain)


@pytest.mark.parametrize("form", FORMS)
def test_timestamps_of_ours_and_theirs(
    place: Place, notation: Notation, tmp_path: Path, stamps: tuple[str, Issued], form: Form
) -> None:
    address, root = stamps
    ours, theirs = push_image(place, "ours"), push_image(place, "theirs")
    signer, authority = signer_of(SIGNER, tmp_path), TimestampAuthority(address, [root.certificate])
    sign_notation(place, ours, signer, form=form)
    assert sign_notation(place, ours, signer, form=form, timestamper=authority).changed
    (tmp_path / "tsa.pem").write_bytes(root.pem)
    flags = ["--signature-format", form, "--timestamp-url", address, "--timestamp-root-cert", str(tmp_path / "tsa.pem")]
    signed = notation.sign(SIGNER, name_of(place, theirs.digest), *flags)
    assert signed.returncode == 0, signed.stderr
    trust = read_trust(notation.trust(ROOT, stamps=[root]))
    verified = notation.verify(name_of(place, ours.digest))
    assert verified.returncode == 0, verified.stderr
    after = SIGNER.certificate.not_valid_after_utc + timedelta(days=365)
    for one in (ours, theirs):
        found = verify_notation(place, one, trust, revocation=not_revoked, now=after)
        (signature,) = found.signatures
        assert signature.verified.timestamp is not None
        without = read_trust(notation.trust(ROOT))
        with pytest.raises(SignatureInvalid, match=r"authenticTimestamp: the certificate of .* was valid until"):
            verify_notation(place, one, without, revocation=not_revoked, now=after)
    foreign = read_trust(notation.trust(ROOT, stamps=[OTHER]))
    assert notation.verify(name_of(place, ours.digest)).returncode != 0
    with pytest.raises(SignatureInvalid, match=r"authenticTimestamp: .* nobody who is trusted"):
        verify_notation(place, ours, foreign, revocation=not_revoked)


def test_a_self_signed_certificate_stands_for_itself(place: Place, notation: Notation, tmp_path: Path) -> None:
    alone, image = make_self_signed(), push_image(place)
    sign_notation(place, image, signer_of(alone, tmp_path))
    trust = read_trust(notation.trust(alone))
    verified = notation.verify(name_of(place, image.digest))
    assert verified.returncode == 0, verified.stderr
    assert verify_notation(place, image, trust, revocation=not_revoked).signatures


def test_signatures_of_notation_and_ours_live_beside_each_other(
    any_place: Place, notation: Notation, tmp_path: Path
) -> None:
    image, theirs = push_image(any_place), OTHER.issue("their signer")
    assert notation.sign(theirs, name_of(any_place, image.digest)).returncode == 0
    sign_notation(any_place, image, signer_of(SIGNER, tmp_path))
    sign_notation(any_place, image, signer_of(SIGNER, tmp_path), form="cose")
    for root, count in ((ROOT, 2), (OTHER, 1)):
        trust = read_trust(notation.trust(root))
        assert notation.verify(name_of(any_place, image.digest)).returncode == 0
        found = verify_notation(any_place, image, trust, revocation=not_revoked)
        assert (len(found.signatures), len(found.rejected)) == (count, 3 - count)
