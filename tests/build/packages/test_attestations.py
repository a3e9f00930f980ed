"""Who published a file (PEP 740): attestations of a Sigstore of our own, read here and by PyPI's own package."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sigstore.models
import sigstore.verify

from registry_pipelines.build.packages.attestations import publishers_of
from registry_pipelines.build.packages.publishing import read_wheel
from registry_pipelines.errors import EvidenceMissing, SignatureInvalid
from registry_pipelines.evidence.keyless.trust_root import TrustRoot, load_trust_roots
from tests.build.packages.sources import Asking, simple
from tests.build.wheels import make_wheel
from tests.doubles.package_index import PackageIndex
from tests.doubles.sigstore import PrivateSigstore
from tests.needs import missing, needed_module

GITHUB = "https://token.actions.githubusercontent.com"
HOME = "https://github.com/acme/leaf"
WORKFLOW = f"{HOME}/.github/workflows/release.yml"
PUBLISHER = {"kind": "GitHub", "repository": "acme/leaf", "workflow": "release.yml", "environment": None}
PREDICATE = "https://{}/attestations/publish/v1"


class Attester:
    def __init__(self, folder: Path) -> None:
        openssl = shutil.which("openssl") or missing("openssl is not here")
        self.sigstore = PrivateSigstore(folder / "stamps", openssl)
        self.file = folder / "trusted_root.json"
        self.file.write_text(json.dumps(self.sigstore.trust_root()))

    def roots(self) -> list[TrustRoot]:
        return list(load_trust_roots(self.file))

    def attestation(self, wheel: Path, **changes: Any) -> dict[str, Any]:
        """changes: subject, issuer, claims of the certificate; name, sha256, predicate of the statement."""
        kind = PREDICATE.format(".".join(("docs", "pypi", "org")))
        statement = {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [
                {
                    "name": changes.get("name", wheel.name),
                    "digest": {"sha256": changes.get("sha256", hashlib.sha256(wheel.read_bytes()).hexdigest())},
                }
            ],
            "predicateType": changes.get("predicate", kind),
            "predicate": None,
        }
        claims = {"12": HOME, "13": "abc", "14": "refs/tags/v1", "18": f"{WORKFLOW}@refs/tags/v1"}
        signer = self.sigstore.certificate(
            changes.get("subject", f"{WORKFLOW}@refs/tags/v1"),
            changes.get("issuer", GITHUB),
            claims={**claims, **changes.get("claims", {})},
        )
        bundle = self.sigstore.sign(json.dumps(statement).encode(), signer)
        material = bundle["verificationMaterial"]
        return {
            "version": 1,
            "verification_material": {
                "certificate": material["certificate"]["rawBytes"],
                "transparency_entries": material["tlogEntries"],
            },
            "envelope": {
                "statement": bundle["dsseEnvelope"]["payload"],
                "signature": bundle["dsseEnvelope"]["signatures"][0]["sig"],
            },
        }

    def provenance(self, wheel: Path, publisher: dict[str, Any] | None = None, **changes: Any) -> bytes:
        attestations = [self.attestation(wheel, **changes)]
        bundle = {"publisher": publisher or PUBLISHER, "attestations": attestations}
        return json.dumps({"version": 1, "attestation_bundles": [bundle]}).encode()


@pytest.fixture(scope="module")
def attester(tmp_path_factory: pytest.TempPathFactory) -> Attester:
    return Attester(tmp_path_factory.mktemp("sigstore"))


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return make_wheel(tmp_path / "w", "leaf", "1.0")


Peer = Callable[[bytes, Path], bool]


@pytest.fixture
def peer(attester: Attester, monkeypatch: pytest.MonkeyPatch) -> Peer:
    """What PyPI's own package says of a provenance, by the same trust root."""
    package = needed_module("pypi_attestations", "dev")
    verifier = sigstore.verify.Verifier(trusted_root=sigstore.models.TrustedRoot.from_file(str(attester.file)))
    monkeypatch.setattr(sigstore.verify.Verifier, "production", lambda **_: verifier)

    def believes(raw: bytes, wheel: Path) -> bool:
        try:
            found = package.Provenance.model_validate_json(raw)
            for bundle in found.attestation_bundles:
                for attestation in bundle.attestations:
                    attestation.verify(bundle.publisher, package.Distribution.from_file(wheel), offline=True)
        except (package.VerificationError, ValueError):
            return False
        return True

    return believes


CASES: dict[str, dict[str, Any]] = {
    "good": {},
    "by its commit": {"claims": {"18": f"{WORKFLOW}@abc"}},
    "of a build": {"predicate": "https://slsa.dev/provenance/v1"},
    "another file": {"name": "leaf-2.0-py3-none-any.whl"},
    "another content": {"sha256": "0" * 64},
    "another predicate": {"predicate": "https://acme.example/v1"},
    "another issuer": {"issuer": "https://token.example"},
    "another repository": {"claims": {"12": "https://github.com/evil/leaf"}},
    "another workflow": {"claims": {"18": f"{HOME}/.github/workflows/other.yml@refs/tags/v1"}},
    "a workflow that others call": {
        "claims": {"12": "https://github.com/evil/x", "18": "https://github.com/evil/x/.github/workflows/x.yml@abc"}
    },
    "another ref": {"claims": {"18": f"{WORKFLOW}@refs/heads/other"}},
}


@pytest.mark.parametrize("case", CASES)
def test_we_believe_what_the_indexs_own_package_believes(
    case: str, attester: Attester, wheel: Path, peer: Peer
) -> None:
    raw = attester.provenance(wheel, **CASES[case])
    good = case in ("good", "by its commit", "of a build")
    assert peer(raw, wheel) is good
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if good:
        found = publishers_of(raw, filename=wheel.name, sha256=sha256, roots=attester.roots())
        assert found == ["github:acme/leaf/release.yml"]
    else:
        with pytest.raises(SignatureInvalid, match="does not hold"):
            publishers_of(raw, filename=wheel.name, sha256=sha256, roots=attester.roots())


def test_a_publisher_of_another_kind(attester: Attester, wheel: Path, peer: Peer) -> None:
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    gitlab = "https://gitlab.com/acme/leaf"
    claims = {"12": gitlab, "13": "abc", "14": "refs/heads/main", "18": f"{gitlab}//.gitlab-ci.yml@abc"}
    publisher = {"kind": "GitLab", "repository": "acme/leaf", "workflow_filepath": ".gitlab-ci.yml"}
    raw = attester.provenance(wheel, publisher, issuer="https://gitlab.com", claims=claims)
    assert peer(raw, wheel)
    assert publishers_of(raw, filename=wheel.name, sha256=sha256, roots=attester.roots()) == ["gitlab:acme/leaf"]
    unknown = attester.provenance(wheel, {"kind": "Forge", "repository": "acme/leaf"})
    assert publishers_of(unknown, filename=wheel.name, sha256=sha256, roots=attester.roots()) == []
    with pytest.raises(SignatureInvalid):  # what it signs is looked at all the same
        publishers_of(unknown, filename=wheel.name, sha256="0" * 64, roots=attester.roots())
    for text in (b"{}", b"[" * 5000, raw.replace(b'"version": 1', b'"version": 2')):
        with pytest.raises(SignatureInvalid):
            publishers_of(text, filename=wheel.name, sha256=sha256, roots=attester.roots())


def test_a_signature_that_was_changed(attester: Attester, wheel: Path) -> None:
    document = json.loads(attester.provenance(wheel))
    envelope = document["attestation_bundles"][0]["attestations"][0]["envelope"]
    statement = base64.b64decode(envelope["statement"]).replace(b"leaf-1.0", b"leaf-1.1")
    envelope["statement"] = base64.b64encode(statement).decode()
    with pytest.raises(SignatureInvalid, match="signature"):
        publishers_of(json.dumps(document).encode(), filename=wheel.name, sha256="0" * 64, roots=attester.roots())


def test_builds_note_require_and_name_publishers(
    ask: Asking, attester: Attester, ours: PackageIndex, wheel: Path
) -> None:
    offered = ours.add(wheel, provenance=attester.provenance(wheel))
    _, about, notes = ask.one("leaf", simple(ours), roots=attester.roots)
    assert about["attestedBy"] == "github:acme/leaf/release.yml" and not notes
    named = simple(ours, publishers={"le*": "github:acme/leaf"}, attestations="require")
    assert ask.one("leaf", named, roots=attester.roots)
    with pytest.raises(SignatureInvalid, match="published by github:acme/other"):
        ask.one("leaf", simple(ours, publishers={"leaf": "github:acme/other"}), roots=attester.roots)
    assert "nobody looked" in ask.one("leaf", simple(ours))[2][0]
    offered.provenance = b""
    assert "attestedBy" not in ask.one("leaf", simple(ours), roots=attester.roots)[1]
    with pytest.raises(EvidenceMissing, match="requires"):
        ask.one("leaf", simple(ours, attestations="require"), roots=attester.roots)
    other = make_wheel(wheel.parent, "forged", "1.0")
    ours.add(other, provenance=attester.provenance(other, {"kind": "Forge"}))
    assert "no publisher of a kind" in ask.one("forged", simple(ours), roots=attester.roots)[2][0]
    with pytest.raises(EvidenceMissing, match="requires"):
        ask.one("forged", simple(ours, attestations="require"), roots=attester.roots)


def test_a_wrong_attestation_ends_a_build_that_asked_for_none(
    ask: Asking, attester: Attester, ours: PackageIndex, wheel: Path
) -> None:
    ours.add(wheel, provenance=attester.provenance(wheel, sha256="0" * 64))
    with pytest.raises(SignatureInvalid, match="another content"):
        ask.one("leaf", simple(ours), roots=attester.roots)


def test_attestations_are_published_with_their_wheel(attester: Attester, wheel: Path) -> None:
    beside = wheel.with_name(f"{wheel.name}.publish.attestation")
    beside.write_text(json.dumps(attester.attestation(wheel)))
    fields = dict(read_wheel(wheel).fields)
    assert json.loads(fields["attestations"]) == [json.loads(beside.read_text())]
    beside.write_text(json.dumps(attester.attestation(wheel, sha256="0" * 64)))
    with pytest.raises(SignatureInvalid, match="another content"):
        read_wheel(wheel)
