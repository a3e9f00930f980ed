"""Releases that are signed by certificate, too: configuration, command line, and the real notation."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from registry_pipelines.chain import Chain
from registry_pipelines.chain.keys import trusted_keys
from registry_pipelines.config import load
from registry_pipelines.errors import ConfigInvalid, EvidenceMissing, InputError, SignatureInvalid
from registry_pipelines.evidence.keys import generate_key, load_verifier
from registry_pipelines.promote.documents import Policy
from registry_pipelines.promote.judge import judge
from registry_pipelines.promote.verdicts import read as read_verdicts
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.engine import Engine
from tests.chain.fleet import Fleet, push
from tests.cli.on_fleet import answer, run
from tests.doubles.authorities import STAMPS, Issued, OpensslRevocations, OpensslTimestamps, make_root, revocable
from tests.sign.notations import Notation, serve_timestamps

ROOT = make_root()
SIGNER = ROOT.issue("signer")
TRUST = "signing: {generate: true, notation: {trust: trust}}"


def configured(fleet: Fleet, issued: Issued = SIGNER, **more: str) -> Chain:
    """A chain that signs with this key and chain. more: further fields of ``signing.notation``, as YAML."""
    (fleet.folder / "notation.key").write_bytes(issued.key_pem)
    (fleet.folder / "chain.pem").write_bytes(issued.pem)
    fields = {"certificates": "chain.pem", "key": "notation.key", **more}
    told = ", ".join(f"{name}: {value}" for name, value in fields.items())
    return fleet.reload(("signing: {generate: true}", f"signing: {{generate: true, notation: {{{told}}}}}"))


def configured_again(fleet: Fleet, issued: Issued) -> Chain:
    """The same with another key and chain."""
    (fleet.folder / "notation.key").write_bytes(issued.key_pem)
    (fleet.folder / "chain.pem").write_bytes(issued.pem)
    return Chain(load(fleet.path, {}))


def trusting(fleet: Fleet, *anchors: Issued, stamps: tuple[Issued, ...] = (), **statement: object) -> Path:
    """A folder like notation's, below the configuration's."""
    return Notation("", fleet.folder / "home").trust(*anchors, stamps=stamps, **statement)


@pytest.mark.peer("notation", "openssl")
@pytest.mark.parametrize("form", ["jws", "cose"])
def test_a_release_is_signed_for_notation_too(
    fleet: Fleet, peer: Callable[[str], str], tmp_path: Path, form: str
) -> None:
    stamps_root = make_root("tsa root")
    stamper = OpensslTimestamps(peer("openssl"), tmp_path / "tsa", stamps_root.issue("tsa", uses=(STAMPS,)))
    (fleet.folder / "tsa.pem").write_bytes(stamps_root.pem)
    trust = trusting(fleet, ROOT, stamps=(stamps_root,))
    with serve_timestamps(stamper) as address:
        stamps = f"{{url: '{address}', roots: tsa.pem}}"
        chain = configured(fleet, form=form, lasts="30d", timestamps=stamps, trust=str(trust))
        release = fleet.release("v1")
        with pytest.raises(EvidenceMissing):
            chain.verify(release)
        signed = chain.sign(release)
        assert [row["new"] for row in signed.rows if row["kind"] == f"signature (notation {form})"] == [True]
        assert not chain.sign(release).changed
    verified = chain.verify(release)
    assert verified.facts["signatures"] == 3
    assert {"kind": f"signature (notation {form})", "key": "C=GB,ST=X,O=platform,CN=signer"}.items() <= verified.rows[
        2
    ].items()
    program = Notation(peer("notation"), fleet.folder / "home2")
    program.trust(ROOT, stamps=[stamps_root])
    done = program.verify(f"{chain.place('app')}@{release.digest}")
    assert done.returncode == 0, done.stderr


@pytest.mark.peer("notation")
def test_notation_believes_releases_by_the_policy_that_is_written_for_it(
    fleet: Fleet, peer: Callable[[str], str]
) -> None:
    """At every place, and nothing else there; an approved image of others is in no policy of notation's."""
    chain = configured(fleet)
    release = fleet.release("v1")
    chain.sign(release)
    stranger = push(chain.place("app"), "v2")  # pushed, and not signed
    program = Notation(peer("notation"), fleet.folder / "home")
    files = chain.admission_files("notation")
    assert set(files) == {"trustpolicy.json", "truststore/x509/ca/registry-pipelines/0.pem"}
    for name, content in files.items():
        (program.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (program.folder / name).write_bytes(content)
    done = program.verify(f"{chain.place('app')}@{release.digest}")
    assert done.returncode == 0, done.stderr
    assert program.verify(f"{chain.place('app')}@{stranger.digest}").returncode != 0
    gcp = chain.target_place("app", "gcp")
    copy_closure(chain.place("app"), "v1", [gcp], engine=Engine(state=fleet.folder / "copies"))
    assert program.verify(f"{gcp}@{release.digest}").returncode == 0
    other = fleet.release("v1", image="tool")
    configured_again(fleet, ROOT.issue("stranger")).sign(other)
    assert "verification failed" in program.verify(f"{chain.place('tool')}@{other.digest}").stderr
    (fleet.folder / "chain.pem").write_bytes(ROOT.pem)
    with pytest.raises(InputError, match="0 that sign and 1 root"):
        chain.admission_files("notation")
    with pytest.raises(InputError, match="not signed for Notation"):
        fleet.chain.admission_files("notation")


def test_the_persons_key_signs_where_it_has_a_certificate(fleet: Fleet) -> None:
    release = fleet.release("v1")
    fleet.chain.sign(release)  # makes the key
    private = serialization.load_pem_private_key(fleet.config.signing_key.read_bytes(), None)
    (fleet.folder / "chain.pem").write_bytes(ROOT.issue("person", key=private).pem)
    chain = fleet.reload(
        ("signing: {generate: true}", "signing: {generate: true, notation: {certificates: chain.pem}}")
    )
    assert [row["kind"] for row in chain.sign(release).rows if row["new"]] == ["signature (notation jws)"]
    found = answer(fleet, "config", "check")
    assert found
    (fleet.folder / "chain.pem").write_bytes(SIGNER.pem)
    other = fleet.release("v2")
    with pytest.raises(InputError, match="none of these certificates is of the signing key"):
        chain.sign(other)
    assert len(chain.place("app").registry.referrers("team/app", other.digest)) == 1  # its provenance


def test_a_release_that_the_policy_does_not_believe_is_refused(fleet: Fleet) -> None:
    release = fleet.release("v1")
    trust = trusting(fleet, ROOT)
    chain = configured(fleet, trust=str(trust))
    chain.sign(release)
    assert chain.verify(release).ok
    trusting(fleet, make_root("another"))
    with pytest.raises(SignatureInvalid, match="authenticity"):
        chain.verify(release)
    trusting(fleet, make_root("another"), signatureVerification={"level": "audit"})
    assert any(reason.startswith("only logged, as statement 'p' wants it") for reason in chain.verify(release).reasons)
    skipping = {"registryScopes": [str(chain.place("app"))], "signatureVerification": {"level": "skip"}}
    trusting(fleet, ROOT, trustStores=[], trustedIdentities=[], **skipping)
    assert any("verifies nothing here" in reason for reason in chain.verify(release).reasons)


def test_any_image_is_verified_by_the_policy_of_this_machine(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    release = fleet.release("v1")
    configured(fleet).sign(release)
    monkeypatch.setenv("HOME", str(fleet.folder / "home"))
    assert "there is no Notation trust policy" in run(fleet, "verify", "us/team/app:v1", "--notation", code=8).output
    trusting(fleet, ROOT)
    for target in ("us/team/app:v1", release.key):
        (row,) = answer(fleet, "verify", target, "--notation")["verified"]
        assert (row["kind"], row["identity"]) == ("signature (notation jws)", "C=GB,ST=X,O=platform,CN=signer")
    public = str(fleet.config.trusted_keys[0])
    both = answer(fleet, "verify", "us/team/app:v1", "--notation", "--key", public)["verified"]
    assert [row["kind"] for row in both[:3]] == ["signature (notation jws)", "signature (sig)", "signature (bundle)"]
    assert "notation jws" in run(fleet, "verify", "us/team/app:v1", "--notation").output
    trusting(fleet, make_root("another"))
    run(fleet, "verify", "us/team/app:v1", "--notation", code=3)
    skipping = {"registryScopes": [str(fleet.chain.place("app"))], "signatureVerification": {"level": "skip"}}
    trusting(fleet, ROOT, trustStores=[], trustedIdentities=[], **skipping)
    assert "verifies nothing here" in run(fleet, "verify", "us/team/app:v1", "--notation", code=3).output


@pytest.mark.peer("notation")
def test_the_signature_travels_with_the_release(fleet: Fleet, peer: Callable[[str], str]) -> None:
    """A replica's repository has another name; the signature names none."""
    chain, release = configured(fleet), fleet.release("v1")
    for stage in (chain.sbom, chain.vulnerabilities, chain.sign, chain.judge, chain.promote):
        assert stage(release).ok
    for target in ("eu", "gcp"):
        assert chain.replicate(release, target).ok
    replicas = [chain.target_place("app", target) for target in ("eu", "gcp")]
    program = Notation(peer("notation"), fleet.folder / "home")
    program.trust(ROOT, registryScopes=[str(replicas[0])])
    done = [program.verify(f"{place}@{release.digest}") for place in replicas]
    assert done[0].returncode == 0, done[0].stderr
    assert done[1].returncode != 0  # not among the scopes


@pytest.mark.peer("notation", "openssl")
def test_a_certificate_that_was_taken_back_signs_nothing_any_more(
    fleet: Fleet, peer: Callable[[str], str], tmp_path: Path
) -> None:
    """As notation, which asks the same responder, says."""
    answers = OpensslRevocations(peer("openssl"), tmp_path / "ca", ROOT)
    program = Notation(peer("notation"), fleet.folder / "home")
    with answers.served() as address:
        signer = ROOT.issue("signer", more=revocable(address, "ocsp", "crl"))
        answers.list(signer, revoked=False)
        chain, release = configured(fleet, signer, trust=str(program.trust(ROOT))), fleet.release("v1")
        chain.sign(release)
        image = f"{chain.place('app')}@{release.digest}"
        assert chain.verify(release).ok
        assert program.verify(image).returncode == 0
        answers.list(signer, revoked=True)
        with pytest.raises(SignatureInvalid, match=r"revocation: .* was taken back by its issuer"):
            chain.verify(release)
        assert program.verify(image).returncode != 0
    with pytest.raises(SignatureInvalid, match=r"revocation: .* nobody could say"):
        chain.verify(release)


MISTAKES = [
    ("{}", "names neither `certificates` to sign with nor `trust` to verify with"),
    ("{key: notation.key}", "is for signing, and there are no `certificates`"),
    ("{trust: trust, lasts: 1d}", "is for signing, and there are no `certificates`"),
    ("{certificates: chain.pem, form: pkcs7}", "form"),
    ("{certificates: chain.pem, timestamps: {url: 'ftp://a', roots: chain.pem}}", "url"),
]


def test_a_configuration_that_cannot_be_meant_is_refused(fleet: Fleet) -> None:
    right = fleet.path.read_text()
    for told, words in MISTAKES:
        fleet.path.write_text(right.replace("{generate: true}", f"{{generate: true, notation: {told}}}"))
        with pytest.raises(ConfigInvalid, match=words):
            load(fleet.path, {})


def test_check_says_what_is_wrong_with_the_files(fleet: Fleet) -> None:
    configured(fleet, ROOT.issue("x", begins=timedelta(days=-2), ends=timedelta(days=-1)), trust="trust")
    (fleet.folder / "trust").mkdir()
    said = run(fleet, "config", "check", code=8).output
    assert "signing.notation.certificates: these certificates sign nothing that is believed" in said
    assert "signing.notation.trust: " in said
    assert "there is no Notation trust policy" in said
    (fleet.folder / "trust" / "trustpolicy.json").write_text(json.dumps({"version": "1.0", "trustPolicies": []}))
    assert "it has no statement" in run(fleet, "config", "check", code=8).output


def test_a_policy_that_requires_it_denies_what_no_certificate_signed(fleet: Fleet) -> None:
    fleet.path.write_text(fleet.path.read_text() + "policies:\n  default: {required: [signature, notation]}\n")
    trust = trusting(fleet, ROOT)
    chain, release, unsigned = configured(fleet, trust=str(trust)), fleet.release("v1"), fleet.release("v2")
    chain.sign(release)
    assert chain.judge(release).ok
    latest = read_verdicts(chain.place("app"), release.digest, trusted_keys(chain.config)).latest()
    assert latest and "signature:notation" in {used.predicate_type for used in latest.verdict.evidence}
    trusting(fleet, make_root("another"))
    fresh = Chain(load(fleet.path, {}))
    [reason] = [each for each in fresh.judge(release).reasons if each.startswith("notation: ")]
    assert "authenticity" in reason
    assert fresh.judge(unsigned).reasons[:2] == [
        "signature: the image is not signed",
        "notation: the image has no Notation signature",
    ]
    trusting(fleet, make_root("another"), signatureVerification={"level": "audit"})
    audited = Chain(load(fleet.path, {})).judge(release)
    assert any(each.startswith("notation: only logged") for each in audited.reasons)
    assert not audited.ok
    skipping = {"registryScopes": [str(chain.place("app"))], "signatureVerification": {"level": "skip"}}
    trusting(fleet, ROOT, trustStores=[], trustedIdentities=[], **skipping)
    assert any("verifies nothing here" in each for each in Chain(load(fleet.path, {})).judge(release).reasons)
    with pytest.raises(ConfigInvalid, match=r"there is no `signing.notation.trust` to ask"):
        fleet.reload((f", trust: {trust}", ""))


def test_keys_alone_know_no_certificates(fleet: Fleet) -> None:
    place, _ = fleet.chain.place("app"), fleet.release("v1")
    verifier = load_verifier([generate_key(fleet.folder / "one.key").public])
    policy = Policy(required=("notation",))
    verdict = judge(place, place.registry.resolve(place.repository, "v1"), policy, verifier, image="app")
    assert "notation: there is no Notation trust policy to ask (signing.notation.trust)" in verdict.reasons
