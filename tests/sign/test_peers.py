"""Proof by the real cosign, in both directions, on a registry with the referrers API and on one without."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from registry_pipelines.errors import EvidenceMissing, SignatureInvalid
from registry_pipelines.evidence.attestations import attest_once, read_attestations
from registry_pipelines.evidence.keys import generate_key, load_signer, load_verifier
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import Place
from registry_pipelines.sign.cosign import sign_image, verify_image
from tests.evidence.parts import NO_LOG, Cosign, Key, push_image
from tests.patience import patient

pytestmark = pytest.mark.peer("cosign", "cosign2", "docker-registry")
PROVENANCE = "https://slsa.dev/provenance/v1"
BOM = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": []}
BUILD = {
    "buildDefinition": {"buildType": "https://example.com/b", "externalParameters": {}, "resolvedDependencies": []},
    "runDetails": {"builder": {"id": "https://example.com/builder"}},
}
VULN = {
    "invocation": {"parameters": None, "uri": "", "event_id": "", "builder.id": ""},
    "scanner": {"uri": "urn:x", "version": "", "db": {"uri": "", "version": ""}, "result": {}},
    "metadata": {"scanStartedOn": "2026-01-01T00:00:00Z", "scanFinishedOn": "2026-01-01T00:00:00Z"},
}
CASES = [("slsaprovenance1", PROVENANCE, BUILD), ("cyclonedx", "https://cyclonedx.org/bom", BOM)]
CASES.append(("vuln", "https://cosign.sigstore.dev/attestation/vuln/v1", VULN))


def name_of(place: Place, digest: Digest) -> str:
    return f"{place}@{digest}"


def test_both_cosigns_verify_what_we_write(
    any_place: Place, key: Key, other_key: Key, cosign: Cosign, cosign2: Cosign
) -> None:
    image, unsigned = push_image(any_place), push_image(any_place, "unsigned")
    sign_image(any_place, image, key.signer, identity=str(any_place))
    for _, kind, predicate in CASES:
        attest_once(any_place, image, kind, predicate, key.signer, att_tag=True)
    for program in (cosign, cosign2):
        verified = program.verify(key.public, name_of(any_place, image.digest))
        assert verified.returncode == 0, verified.stderr
        claims = json.loads(verified.stdout)
        assert {item["critical"]["image"]["docker-manifest-digest"] for item in claims} == {image.digest}
        assert program.verify(other_key.public, name_of(any_place, image.digest)).returncode != 0
        assert program.verify(key.public, name_of(any_place, unsigned.digest)).returncode != 0
        for kind, predicate_type, predicate in CASES:
            found = program.verify_attestation(key.public, kind, name_of(any_place, image.digest))
            assert found.returncode == 0, (kind, found.stderr)
            statement = json.loads(base64.b64decode(json.loads(found.stdout.splitlines()[0])["payload"]))
            assert (statement["predicateType"], statement["predicate"]) == (predicate_type, predicate)
            assert program.verify_attestation(other_key.public, kind, name_of(any_place, image.digest)).returncode != 0
        assert program.verify_attestation(key.public, "spdxjson", name_of(any_place, image.digest)).returncode != 0


@pytest.mark.parametrize(("version", "form"), [("cosign", "bundle"), ("cosign2", "sig")])
def test_we_verify_what_cosign_writes(
    any_place: Place, tmp_path: Path, other_key: Key, request: pytest.FixtureRequest, version: str, form: str
) -> None:
    program: Cosign = request.getfixturevalue(version)
    files = generate_key(tmp_path / "theirs.key", form="cosign")
    image, other = push_image(any_place), push_image(any_place, "other")
    verifier = load_verifier([files.public])
    signed = program.sign(files.private, name_of(any_place, image.digest), *NO_LOG[version])
    assert signed.returncode == 0, signed.stderr
    found = verify_image(any_place, image.digest, verifier)
    assert [(item.form, item.key_id) for item in found.signatures] == [(form, files.key_id)]
    with pytest.raises(SignatureInvalid):
        verify_image(any_place, image.digest, other_key.verifier)
    with pytest.raises(EvidenceMissing):
        verify_image(any_place, other.digest, verifier)
    for kind, predicate_type, predicate in CASES:
        made = program.attest(
            files.private, kind, json.dumps(predicate), name_of(any_place, image.digest), *NO_LOG[version]
        )
        assert made.returncode == 0, (kind, made.stderr)
        read = read_attestations(any_place, image.digest, verifier, predicate_type=predicate_type)
        assert len(read.verified) == 1, read.rejected
        assert read.verified[0].subjects == (image.digest,)
        assert read_attestations(any_place, image.digest, other_key.verifier).verified == ()


def test_signatures_of_cosign_and_ours_live_beside_each_other(
    any_place: Place, tmp_path: Path, key: Key, cosign: Cosign, cosign2: Cosign
) -> None:
    files = generate_key(tmp_path / "theirs.key", form="cosign")
    image = push_image(any_place)
    assert cosign2.sign(files.private, name_of(any_place, image.digest), *NO_LOG["cosign2"]).returncode == 0
    sign_image(any_place, image, key.signer, identity=str(any_place))
    assert cosign.sign(files.private, name_of(any_place, image.digest), *NO_LOG["cosign"]).returncode == 0
    again = sign_image(any_place, image, key.signer, identity=str(any_place))
    assert not again.changed
    for program in (cosign, cosign2):
        for public in (key.public, files.public):
            verified = program.verify(public, name_of(any_place, image.digest))
            assert verified.returncode == 0, verified.stderr
    both = load_verifier([key.public, files.public])
    found = verify_image(any_place, image.digest, both)
    assert {item.key_id for item in found.signatures} == {key.signer.key_id, files.key_id}
    assert len(found.signatures) == 4
    assert load_signer(files.private).key_id == files.key_id


@pytest.mark.peer("skopeo-sigstore")
def test_skopeo_copies_what_we_signed_and_nothing_else(
    any_place: Place, tmp_path: Path, key: Key, other_key: Key, peer: Callable[[str], str]
) -> None:
    image, unsigned = push_image(any_place), push_image(any_place, "unsigned")
    sign_image(any_place, image, key.signer, identity=str(any_place))
    registries = tmp_path / "registries.d"
    registries.mkdir()
    host = any_place.registry.name
    (registries / "here.yaml").write_text(f"docker: {{'{host}': {{use-sigstore-attachments: true}}}}\n")

    def copy(public: Path, digest: Digest) -> subprocess.CompletedProcess[str]:
        rule = {"type": "sigstoreSigned", "keyPath": str(public), "signedIdentity": {"type": "matchRepository"}}
        policy = {"default": [{"type": "reject"}], "transports": {"docker": {str(any_place): [rule]}}}
        (tmp_path / "policy.json").write_text(json.dumps(policy))
        options = ["--policy", str(tmp_path / "policy.json"), "--registries.d", str(registries)]
        source, target = f"docker://{name_of(any_place, digest)}", f"dir:{tmp_path / 'copy'}"
        command = [peer("skopeo-sigstore"), *options, "copy", "--src-tls-verify=false", source, target]
        return subprocess.run(command, capture_output=True, text=True, timeout=patient(60))

    admitted = copy(key.public, image.digest)
    assert admitted.returncode == 0, admitted.stderr
    assert "cryptographic signature verification failed" in copy(other_key.public, image.digest).stderr
    assert "no signature exists" in copy(key.public, unsigned.digest).stderr
