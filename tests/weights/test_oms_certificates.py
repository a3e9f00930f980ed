"""Models that are signed by certificate: what model-signing signs we believe by its authority, what we sign it
believes, and what both refuse. Rules that are ours alone are held against us alone."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from registry_pipelines.config import load
from registry_pipelines.errors import ConfigInvalid, InputError, KeyRefused, SignatureInvalid
from registry_pipelines.evidence.attestors import WEIGHTS, AttestorCertificates, AttestorFiles
from registry_pipelines.evidence.bundles import read_bundle
from registry_pipelines.evidence.dsse import pae
from registry_pipelines.evidence.keys import KeySet, key_id_of, load_signer, load_verifier
from registry_pipelines.evidence.notation.signers import chain_for_models
from registry_pipelines.evidence.timestamps import write_request
from registry_pipelines.oci.media_types import IN_TOTO
from registry_pipelines.weights.oms.folders import sign_folder, verify_folder
from tests.doubles.authorities import (
    CODE,
    STAMPS,
    Issued,
    OpensslRevocations,
    OpensslTimestamps,
    key_usage,
    make_root,
    make_self_signed,
    revocable,
    subject_of,
)
from tests.needs import needed_module
from tests.weights.conftest import call, done

pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated")  # model-signing calls it
ROOT = make_root()
MIDDLE = ROOT.issue("middle", ca=True)
HOUR = timedelta(hours=1)


def leaf(by: Issued = ROOT, name: str = "models", **more: Any) -> Issued:
    return by.issue(name, **more)


def bare(by: Issued | None, *extensions: x509.ExtensionType) -> Issued:
    """A certificate with these extensions alone, none of them critical; by none: of itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        by.certificate.subject if by else subject_of("bare"),
        subject_of("bare"),
        key.public_key(),
        x509.random_serial_number(),
        now - HOUR,
        now + HOUR,
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    made = builder.sign(by.key if by else key, hashes.SHA256())
    return Issued(made, key, (made, *(by.chain if by else ())))


class Certified:
    """model-signing's certificate method, and ours beside it, in one folder."""

    def __init__(self, folder: Path) -> None:
        needed_module("model_signing", "dev")
        self.folder, self.model = folder, folder / "model"
        self.model.mkdir()
        (self.model / "a.safetensors").write_bytes(bytes(1000))
        (self.model / "b.safetensors").write_bytes(bytes(2000))
        self.signature = self.model / "model.sig"

    def file(self, name: str, *certificates: x509.Certificate) -> Path:
        path = self.folder / name
        path.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in certificates))
        return path

    def key(self, issued: Issued) -> Path:
        path = self.folder / "leaf.key"
        path.write_bytes(issued.key_pem)
        return path

    def they_sign(self, issued: Issued, above: Sequence[x509.Certificate]) -> None:
        from model_signing import hashing, signing

        chain = [self.file("above.pem", *(above or [ROOT.certificate]))]  # it fails without one
        config = signing.Config().use_certificate_signer(
            private_key=self.key(issued),
            signing_certificate=self.file("leaf.pem", issued.certificate),
            certificate_chain=chain,
        )
        config.set_hashing_config(hashing.Config().set_ignored_paths(paths=[self.signature]))
        config.sign(self.model, self.signature)
        if not above:
            self.chain(issued.certificate)

    def they_believe(self, *roots: x509.Certificate) -> bool:
        from model_signing import verifying
        from OpenSSL.crypto import X509StoreContextError

        config = verifying.Config().use_certificate_verifier(certificate_chain=[self.file("theirs.pem", *roots)])
        try:
            config.verify(self.model, self.signature)
        except (ValueError, InvalidSignature, X509StoreContextError):
            return False
        return True

    def believing(
        self, *roots: x509.Certificate, subject: str = "*", stamps: Sequence[Path] = (), crls: Sequence[Path] = ()
    ) -> KeySet:
        files = AttestorCertificates(
            roots=(self.file("ours.pem", *roots),), identities=(subject,), timestamps=tuple(stamps), crls=tuple(crls)
        )
        return load_verifier([], attestors={"publisher": AttestorFiles([WEIGHTS], certificates=files)})

    def verify(self, verifier: KeySet) -> str:
        return verify_folder(self.model, verifier).believed.key_id

    def bundle(self, change: Callable[[dict[str, Any]], object]) -> None:
        said = json.loads(self.signature.read_text())
        change(said)
        self.signature.write_text(json.dumps(said))

    def chain(self, *certificates: x509.Certificate) -> None:
        """Put others into the bundle."""
        raw = [{"rawBytes": base64.b64encode(each.public_bytes(Encoding.DER)).decode()} for each in certificates]
        self.bundle(lambda said: said.update(verificationMaterial={"x509CertificateChain": {"certificates": raw}}))


@pytest.fixture
def certified(tmp_path: Path) -> Certified:
    return Certified(tmp_path)


def below(by: Issued = MIDDLE, **more: Any) -> tuple[Issued, list[x509.Certificate]]:
    made = leaf(by, **more)
    return made, list(made.chain[1:-1])


TLS, MAIL = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.EMAIL_PROTECTION
LIMITS = x509.NameConstraints([x509.DNSName("a.example")], None)
OLD = ROOT.issue("old", ca=True, begins=-3 * HOUR, ends=-HOUR / 2)
NAMESAKE = make_root()
CASES: dict[str, tuple[Callable[[], tuple[Issued, list[x509.Certificate]]], str, bool | None]] = {
    # who signs, with which certificates above it in the bundle; why we refuse, or nothing;
    # whether they believe; None: our own rule, not asked
    "by the root": (lambda: below(ROOT), "", True),
    "an intermediate": (below, "", True),
    "P-384": (lambda: below(key=ec.generate_private_key(ec.SECP384R1())), "", True),
    "P-521": (lambda: below(key=ec.generate_private_key(ec.SECP521R1())), "", True),
    "its root, too": (lambda: (made := leaf(MIDDLE), list(made.chain[1:])), "", True),
    "authorities in another order": (lambda: (made := leaf(MIDDLE), list(made.chain[:0:-1])), "", True),
    "the intermediate is missing": (lambda: (leaf(MIDDLE), []), "issued by nobody who is trusted", False),
    "a namesake's root": (lambda: below(NAMESAKE), "issued by nobody who is trusted", False),
    "a namesake's root within": (lambda: (made := leaf(NAMESAKE), list(made.chain[1:])), "issued by nobody", False),
    "itself alone": (lambda: (make_self_signed("models"), []), "issued by nobody who is trusted", False),
    "over": (lambda: below(begins=-HOUR / 2, ends=-HOUR / 4), "was valid until .* it has no timestamp", None),
    "to come": (lambda: below(begins=HOUR, ends=2 * HOUR), "is not valid before", None),
    "an intermediate that is over": (lambda: below(OLD), "was valid until", None),
    "for encryption": (lambda: below(usage=key_usage("key_encipherment")), "without digitalSignature", False),
    "for encryption and code": (
        lambda: below(usage=key_usage("key_encipherment"), uses=(CODE,)), "without digitalSignature", None),
    "for TLS servers": (lambda: below(uses=(TLS,)), "without codeSigning", None),
    "for mail and code": (lambda: below(uses=(MAIL, CODE)), "", True),
    "no critical usage": (lambda: below(critical=False), "", True),
    "code signing alone": (lambda: (bare(ROOT, x509.ExtendedKeyUsage([CODE])), []), "", True),
    "no usage": (lambda: (bare(ROOT), []), "neither a `keyUsage` nor", False),
    "an authority": (
        lambda: below(ca=True, usage=key_usage("digital_signature", "key_cert_sign")), "is an authority's", None),
    "an authority that issues nothing": (lambda: below(ca=True, usage=key_usage("digital_signature")), "", True),
    "issued by a leaf": (lambda: below(leaf()), "no `basicConstraints` says that it may", False),
    "too far below": (
        lambda: below(ROOT.issue("a", ca=True, path_length=0).issue("b", ca=True)), "allows 0 authorities", False),
    "names that are limited": (lambda: below(ROOT.issue("limited", ca=True, more=((LIMITS, False),))), "limits", None),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_chain_counts_by_its_authority(certified: Certified, case: str) -> None:
    make, refused, theirs = CASES[case]
    issued, above = make()
    certified.they_sign(issued, above)
    assert theirs is None or certified.they_believe(ROOT.certificate) is theirs
    verifier = certified.believing(ROOT.certificate)
    if refused:
        with pytest.raises(SignatureInvalid, match=refused):
            certified.verify(verifier)
        return
    assert (
        certified.verify(verifier) == f"certificate:{issued.certificate.fingerprint(hashes.SHA256()).hex()} publisher"
    )
    (certified.model / "b.safetensors").write_bytes(bytes(1999) + b"x")
    assert not certified.they_believe(ROOT.certificate)
    with pytest.raises(SignatureInvalid, match=r"b\.safetensors has other content"):
        certified.verify(verifier)


@pytest.mark.parametrize("key", [None, ec.generate_private_key(ec.SECP521R1())], ids=["P-256", "P-521"])
def test_what_we_sign_they_believe(certified: Certified, key: Any) -> None:
    issued = leaf(MIDDLE, key=key)
    path, file = certified.key(issued), certified.file("chain.pem", MIDDLE.certificate, issued.certificate)
    made = done("sign", certified.model, "--key", path, "--certificate", file)
    assert made["facts"]["key_id"] == key_id_of(issued.key.public_key())
    assert certified.they_believe(ROOT.certificate)
    assert not certified.they_believe(NAMESAKE.certificate)
    root = certified.file("root.pem", ROOT.certificate)
    options = ("--signed", "--certificates", root)
    told = done("verify", certified.model, *options)
    assert told["action"] == "2 files are as signed"
    assert "C=GB, ST=X, O=platform, CN=models, whose certificate is valid until" in told["notes"][0]
    assert told["notes"][1].startswith("--subject names nobody: every certificate below --certificates counts")
    assert len(done("verify", certified.model, *options, "--subject", "CN=models, O=platform")["notes"]) == 1
    for more, said in ((["--subject", "CN=other"], "is not among those whose certificates count"),):
        refused = call("verify", certified.model, *options, *more)
        assert refused.exit_code == 3 and said in refused.stderr
    other = call("verify", certified.model, "--signed", "--certificates", certified.file("x", NAMESAKE.certificate))
    assert other.exit_code == 3 and "is issued by nobody who is trusted" in other.stderr
    (certified.model / "a.safetensors").write_bytes(bytes(999) + b"x")
    assert not certified.they_believe(ROOT.certificate)
    assert call("verify", certified.model, *options).exit_code == 3


def test_what_signs_nothing_is_said_before_anything_is_signed(certified: Certified) -> None:
    issued = leaf(MIDDLE)
    signer = load_signer(certified.key(issued))
    assert len(chain_for_models(signer, certified.file("all.pem", *issued.chain))) == 3
    assert len(chain_for_models(signer, certified.file("own.pem", issued.certificate))) == 1
    twice = certified.file("twice.pem", NAMESAKE.certificate, *issued.chain)
    assert chain_for_models(signer, twice) == chain_for_models(signer, certified.file("all.pem", *issued.chain))
    with pytest.raises(InputError, match="none of these certificates is of the signing key"):
        chain_for_models(signer, certified.file("other.pem", MIDDLE.certificate))
    for more, said in (({"ends": -HOUR / 2}, "was valid until"), ({"uses": (TLS,)}, "without codeSigning")):
        bad = leaf(MIDDLE, key=issued.key, **more)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=said):
            chain_for_models(signer, certified.file("bad.pem", *bad.chain))


def test_the_signer_comes_first(certified: Certified) -> None:
    """Specification, 4.1: the leaf, followed by the chain."""
    issued = leaf(MIDDLE)
    certified.they_sign(issued, [MIDDLE.certificate])
    certified.chain(MIDDLE.certificate, issued.certificate)
    assert not certified.they_believe(ROOT.certificate)
    with pytest.raises(SignatureInvalid, match=r"not that of the bundle's first certificate \(.*CN=middle\)"):
        certified.verify(certified.believing(ROOT.certificate))
    certified.chain(leaf(MIDDLE).certificate, MIDDLE.certificate)
    assert not certified.they_believe(ROOT.certificate)
    with pytest.raises(SignatureInvalid, match="not that of the bundle's first certificate"):
        certified.verify(certified.believing(ROOT.certificate))
    key = rsa.generate_private_key(65537, 2048)
    certified.chain(leaf(MIDDLE, key=key).certificate, MIDDLE.certificate)
    with pytest.raises(SignatureInvalid, match="none of P-256, P-384 and P-521"):
        certified.verify(certified.believing(ROOT.certificate))


def test_one_certificate_in_place_of_a_chain(certified: Certified) -> None:
    """The form that keyless signatures have (v0.2, too); model-signing reads it by another method alone."""
    issued = leaf()
    certified.they_sign(issued, [])

    def single(said: dict[str, Any]) -> None:
        [only] = said["verificationMaterial"].pop("x509CertificateChain")["certificates"]
        said["verificationMaterial"]["certificate"] = only
        said["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.2"

    certified.bundle(single)
    assert certified.verify(certified.believing(ROOT.certificate)).endswith(" publisher")
    certified.bundle(lambda said: said["dsseEnvelope"]["signatures"].append(said["dsseEnvelope"]["signatures"][0]))
    with pytest.raises(SignatureInvalid, match="more than one signature"):
        certified.verify(certified.believing(ROOT.certificate))


def test_an_intermediate_may_be_the_authority(certified: Certified) -> None:
    """We trust what is named as it is; model-signing wants a chain up to a root among what it is given."""
    certified.they_sign(leaf(MIDDLE), [])
    assert not certified.they_believe(MIDDLE.certificate)
    assert certified.they_believe(MIDDLE.certificate, ROOT.certificate)
    assert certified.verify(certified.believing(MIDDLE.certificate)).endswith(" publisher")


def test_a_root_as_openssl_makes_it(certified: Certified) -> None:
    """`openssl req -x509` writes no `keyUsage`, and RFC 5280 asks none of a chain."""
    root = bare(None, x509.BasicConstraints(ca=True, path_length=None))
    certified.they_sign(leaf(root), [])
    assert certified.they_believe(root.certificate)
    assert certified.verify(certified.believing(root.certificate)).endswith(" publisher")


def test_whose_certificate_it_must_be(certified: Certified) -> None:
    certified.they_sign(leaf(), [])
    assert certified.verify(certified.believing(ROOT.certificate, subject="x509.subject: CN=models"))
    for subject in ("x509.subject: CN=models, O=other", "x509.subject: CN=model"):
        with pytest.raises(SignatureInvalid, match="is not among those whose certificates count"):
            certified.verify(certified.believing(ROOT.certificate, subject=subject))
    for subject in ("CN=models", "x509.subject: models", "x509.subject:"):
        with pytest.raises(InputError, match=r"the certificates of publisher cannot be trusted|x509\.subject"):
            certified.believing(ROOT.certificate, subject=subject)


def test_a_key_that_is_revoked_counts_by_no_certificate(certified: Certified, tmp_path: Path) -> None:
    issued = leaf()
    certified.they_sign(issued, [])
    (tmp_path / "revoked.txt").write_text(f"{key_id_of(issued.key.public_key())} stolen\n")
    files = AttestorCertificates(roots=(certified.file("ours.pem", ROOT.certificate),), identities=("*",))
    verifier = load_verifier(
        [],
        attestors={"publisher": AttestorFiles([WEIGHTS], certificates=files)},
        revoked=tmp_path / "revoked.txt",
    )
    with pytest.raises(KeyRefused, match="is revoked"):
        certified.verify(verifier)


def test_nobody_could_say_whether_it_was_taken_back(certified: Certified) -> None:
    """A certificate that names where to ask is asked about; no answer is no yes."""
    certified.they_sign(leaf(more=revocable("http://127.0.0.1:9/", "ocsp")), [])
    with pytest.raises(SignatureInvalid, match="may have been taken back; nobody could say"):
        certified.verify(certified.believing(ROOT.certificate))


def revoked_by(by: Issued, *taken: x509.Certificate, begins: timedelta = -HOUR, ends: timedelta = HOUR) -> bytes:
    """A list of an authority, PEM."""
    now = datetime.now(UTC)
    builder = x509.CertificateRevocationListBuilder(by.certificate.subject, now + begins, now + ends)
    for each in taken:
        entry = x509.RevokedCertificateBuilder(each.serial_number, now - HOUR)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(by.key, hashes.SHA256()).public_bytes(Encoding.PEM)


SIGNER = leaf(MIDDLE, more=revocable("http://127.0.0.1:9/", "ocsp"))
"""Nobody answers where its authority is asked."""
LISTS: dict[str, tuple[Callable[[], list[bytes]], str]] = {
    "nothing of it": (lambda: [revoked_by(MIDDLE, leaf(MIDDLE).certificate)], ""),
    "one of the root, too": (lambda: [revoked_by(MIDDLE), revoked_by(ROOT)], ""),
    "a namesake's beside it": (lambda: [revoked_by(ROOT.issue("middle", ca=True)), revoked_by(MIDDLE)], ""),
    "taken back": (lambda: [revoked_by(MIDDLE, SIGNER.certificate)], "CN=models.* was taken back by its issuer at"),
    "its authority taken back": (
        lambda: [revoked_by(MIDDLE), revoked_by(ROOT, MIDDLE.certificate)], "CN=middle.* was taken back by its issuer"),
    "over": (lambda: [revoked_by(MIDDLE, ends=-HOUR / 2)], "is not of now: it was valid until"),
    "to come": (lambda: [revoked_by(MIDDLE, begins=HOUR / 2)], "is not of now"),
    "of another authority": (lambda: [revoked_by(ROOT)], "no list of revoked certificates is of the issuer of"),
    "a namesake's": (lambda: [revoked_by(ROOT.issue("middle", ca=True))], "is not by the issuer's key"),
}  # fmt: skip


@pytest.mark.parametrize("case", LISTS)
def test_a_list_that_was_brought_decides_and_nobody_is_asked(certified: Certified, case: str) -> None:
    lists, said = LISTS[case]
    certified.they_sign(SIGNER, [MIDDLE.certificate])
    (certified.folder / "crl.pem").write_bytes(b"".join(lists()))
    root = certified.file("root.pem", ROOT.certificate)
    words = ["verify", certified.model, "--signed", "--certificates", root, "--crl", certified.folder / "crl.pem"]
    ran = call(*words)
    assert ran.exit_code == (3 if said else 0), ran.output
    assert re.search(said, ran.stderr)


def test_an_authority_that_may_sign_no_lists_has_none(certified: Certified) -> None:
    above = ROOT.issue("mute", ca=True, usage=key_usage("key_cert_sign"))
    certified.they_sign(leaf(above), [above.certificate])
    (certified.folder / "crl.pem").write_bytes(revoked_by(above))
    with pytest.raises(SignatureInvalid, match="by an issuer that may sign none"):
        certified.verify(certified.believing(ROOT.certificate, crls=[certified.folder / "crl.pem"]))


@pytest.mark.peer("openssl")
def test_a_list_by_openssl_is_read_again_when_it_changes(
    certified: Certified, peer: Callable[[str], str], tmp_path: Path
) -> None:
    """A process that runs for weeks outlives its lists."""
    certified.they_sign(SIGNER, [MIDDLE.certificate])
    authority, path = OpensslRevocations(peer("openssl"), tmp_path / "ca", MIDDLE), certified.folder / "crl.der"
    authority.list(SIGNER, revoked=False)
    path.write_bytes(authority.crl())
    verifier = certified.believing(ROOT.certificate, crls=[path])
    certified.verify(verifier)
    authority.list(SIGNER, revoked=True)
    path.write_bytes(authority.crl())
    with pytest.raises(SignatureInvalid, match="was taken back"):
        certified.verify(verifier)
    path.unlink()
    with pytest.raises(InputError, match=r"crl\.der: the file cannot be read"):
        certified.verify(verifier)


@pytest.mark.peer("openssl")
def test_a_timestamp_lets_a_signature_outlive_its_certificate(
    certified: Certified, peer: Callable[[str], str], tmp_path: Path
) -> None:
    """The time is the authority's word. model-signing reads no timestamp, and needs none to believe what is over."""
    stamps = make_root("stamps")
    clock = OpensslTimestamps(peer("openssl"), tmp_path / "tsa", stamps.issue("tsa", uses=(STAMPS,)))
    issued = leaf(ends=timedelta(seconds=-10))
    certified.they_sign(issued, [])
    trusted = [certified.file("stamps.pem", stamps.certificate)]
    stamped = certified.believing(ROOT.certificate, stamps=trusted)
    with pytest.raises(SignatureInvalid, match="it has no timestamp"):
        certified.verify(stamped)
    envelope = json.loads(certified.signature.read_text())["dsseEnvelope"]
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    payload = base64.b64decode(envelope["payload"])
    issued.key.public_key().verify(signature, pae(IN_TOTO, payload), ec.ECDSA(hashes.SHA256()))

    def stamp(content: bytes) -> None:
        token = base64.b64encode(clock.answer(write_request(content).raw)).decode()
        tokens = {"rfc3161Timestamps": [{"signedTimestamp": token}]}
        certified.bundle(lambda said: said["verificationMaterial"].update(timestampVerificationData=tokens))

    stamp(signature)  # now, when the certificate is over
    with pytest.raises(SignatureInvalid, match="was valid until"):
        certified.verify(stamped)
    later = leaf(key=issued.key, ends=timedelta(seconds=30))
    raw = base64.b64encode(later.certificate.public_bytes(Encoding.DER)).decode()
    certified.bundle(
        lambda said: said["verificationMaterial"].update(x509CertificateChain={"certificates": [{"rawBytes": raw}]})
    )
    authorities = stamped._authorities["publisher"]
    bundle = read_bundle(certified.signature.read_bytes(), chains=True)
    tomorrow = datetime.now(UTC) + HOUR
    assert authorities.identify(bundle, now=tomorrow) == issued.key.public_key()
    unstamped = certified.believing(ROOT.certificate)._authorities["publisher"]
    with pytest.raises(SignatureInvalid, match="nobody is believed for its timestamp"):
        unstamped.identify(bundle, now=tomorrow)
    stamp(b"another signature")
    bundle = read_bundle(certified.signature.read_bytes(), chains=True)
    with pytest.raises(SignatureInvalid, match=r"its timestamp does not count: .*of other bytes"):
        authorities.identify(bundle, now=tomorrow)


def test_it_comes_out_of_a_registry_by_its_authority(certified: Certified, address: str, tmp_path: Path) -> None:
    """What they signed as a folder goes along; what we sign there they believe when it was pulled."""
    reference, issued = f"{address}/m:1", leaf(MIDDLE)
    options = ["--signed", "--certificates", certified.file("root.pem", ROOT.certificate)]
    strangers = ["--signed", "--certificates", certified.file("x.pem", NAMESAKE.certificate)]
    done("push", certified.model, reference)
    signing = ("--key", certified.key(issued), "--certificate", certified.file("chain.pem", *issued.chain))
    assert done("sign", reference, "--key", certified.key(issued))["action"] == "signed"
    assert done("sign", reference, *signing)["action"] == "signed"  # the key's own is another one
    assert done("sign", reference, *signing)["action"] == "unchanged"
    assert "CN=models, whose certificate is valid until" in done("verify", reference, *options)["notes"][0]
    assert call("verify", reference, *strangers).exit_code == 3
    assert call("pull", reference, "--to", tmp_path / "x", *strangers).exit_code == 3
    assert not (tmp_path / "x").exists()
    told = done("pull", reference, "--to", tmp_path / "pulled", *options)
    assert any("CN=models" in note for note in told["notes"])
    (tmp_path / "pulled/weights.json").unlink()  # which theirs would find unsigned
    certified.model, certified.signature = tmp_path / "pulled", tmp_path / "pulled/model.sig"
    assert certified.they_believe(ROOT.certificate)
    certified.they_sign(issued, [MIDDLE.certificate])
    done("push", tmp_path / "pulled", f"{tmp_path}/store")
    done("sync", f"{tmp_path}/store", f"{address}/m:2")
    assert done("verify", f"{address}/m:2", *options)["facts"]["whole"] == 2


def test_a_configuration_that_names_a_publisher_alone(certified: Certified) -> None:
    """No key is anywhere: whose certificates count is all that it says. Bad files are found by `config check`."""
    certified.they_sign(leaf(MIDDLE), [MIDDLE.certificate])
    root = certified.file("root.pem", ROOT.certificate)
    text = (
        "registries: {{r: {{kind: embedded, port: 5999}}}}\n"
        "trust: {{attestors: {{publisher: {{attests: [weights], certificates: "
        '{{roots: [root.pem], identities: ["{}"]}}}}}}}}\n'
    )
    config = certified.folder / "registry-pipelines.yaml"
    config.write_text(text.format("x509.subject: CN=models"))
    told = done("verify", certified.model, "--signed", "--config", config)
    assert told["facts"]["key_id"].endswith(" publisher")
    assert [note for note in told["notes"] if "--subject" in note] == []
    config.write_text(text.format("x509.subject: CN=other"))
    refused = call("verify", certified.model, "--signed", "--config", config)
    assert refused.exit_code == 3 and "is not among those whose certificates count" in refused.stderr
    both = text.format("x509.subject: C=GB, ST=X, O=platform").replace("[weights]", "[weights, signature]")
    (certified.folder / "crl.pem").write_bytes(revoked_by(MIDDLE))
    config.write_text(both.replace("roots:", "crls: [crl.pem], roots:"))
    with pytest.raises(ConfigInvalid, match="have `crls`, which are of weights, and it attests `signature`"):
        load(config, {}, look=True)
    config.write_text(text.format("CN=models"))
    with pytest.raises(ConfigInvalid, match=r"publisher\.certificates: .*'CN=models' is not x509.subject: SUBJECT"):
        load(config, {}, look=True)
    root.write_text("x")
    with pytest.raises(ConfigInvalid, match=r"root\.pem: the file has no certificate"):
        load(config, {}, look=True)


def test_what_names_nobody_is_said(certified: Certified, tmp_path: Path) -> None:
    certified.they_sign(leaf(), [])
    rooted = ["--signed", "--certificates", certified.file("root.pem", ROOT.certificate)]
    for words, said in (
        (["--certificates", "x"], "Add --signed"),
        (["--signed", "--subject", "CN=x"], "--subject is about certificates"),
        (["--signed", "--timestamps", "x"], "--timestamps is about certificates"),
        (["--signed", "--crl", "x"], "--crl is about certificates"),
        ([*rooted, "--crl", tmp_path / "missing"], "missing: the file cannot be read"),
        ([*rooted, "--crl", tmp_path / "leaf.pem"], "expected lists of revoked certificates alone"),
        ([*rooted, "--crl", certified.signature], "the file has no list of revoked certificates"),
        (["--signed", "--certificates", tmp_path / "missing"], "cannot be read"),
        (["--signed", "--certificates", tmp_path / "leaf.key"], "expected certificates alone"),
        (["--signed", "--certificates", certified.file("leaf.pem", leaf().certificate)], "neither an authority's nor"),
    ):
        refused = call("verify", certified.model, *words)
        assert refused.exit_code == 8 and said in refused.stderr, (words, refused.stderr)


def test_a_certificates_key_may_be_believed_by_itself(certified: Certified) -> None:
    issued = leaf(MIDDLE)
    signer = load_signer(certified.key(issued))
    chain = chain_for_models(signer, certified.file("chain.pem", *issued.chain))
    sign_folder(certified.model, signer, certificates=chain)
    assert certified.verify(KeySet([issued.key.public_key()])) == signer.key_id
