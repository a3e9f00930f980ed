"""Other programs at a replica: they compare the repository that was signed with the one they pull from."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry_pipelines.evidence.predicates import VERDICT_TYPE
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from registry_pipelines.sign.identities import signed_identity
from tests.chain.fleet import Fleet
from tests.evidence.conftest import cosign, cosign2
from tests.evidence.parts import Cosign
from tests.patience import patient

__all__ = ["cosign", "cosign2"]
CONSUMERS = ("signing:", "policies: {default: {consumers: [gcp, airgap]}}\nsigning:")


def shipped(fleet: Fleet, *changes: tuple[str, str]) -> Release:
    fleet.chain = fleet.reload(*changes)
    release = fleet.release("v1.0.0")
    assert fleet.judged(release)
    fleet.chain.promote(release)
    for target in ("eu", "gcp"):
        fleet.chain.replicate(release, target)
    return release


class Skopeo:
    """skopeo with Sigstore, admitting one repository by one rule."""

    def __init__(self, program: str, folder: Path, key: Path) -> None:
        self._program, self._folder, self._key = program, folder, key
        (folder / "registries.d").mkdir()

    def admits(self, place: Place, reference: str, identity: dict[str, str]) -> str:
        """Why not; empty when it does."""
        host = place.registry.name
        rule = {"type": "sigstoreSigned", "keyPath": str(self._key), "signedIdentity": identity}
        policy = {"default": [{"type": "reject"}], "transports": {"docker": {str(place): [rule]}}}
        (self._folder / "policy.json").write_text(json.dumps(policy))
        (self._folder / "registries.d" / "here.yaml").write_text(
            f"docker: {{'{host}': {{use-sigstore-attachments: true}}}}\n"
        )
        options = ["--policy", "policy.json", "--registries.d", "registries.d"]
        source = f"docker://{place}{reference}"
        command = [self._program, *options, "copy", "--src-tls-verify=false", source, "dir:copied"]
        done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, timeout=patient(60))
        return done.stderr if done.returncode else ""


@pytest.fixture
def skopeo(peer: Callable[[str], str], fleet: Fleet, tmp_path: Path) -> Skopeo:
    folder = tmp_path / "skopeo"
    folder.mkdir()
    return Skopeo(peer("skopeo-sigstore"), folder, fleet.config.trusted_keys[0])


@pytest.mark.peer("skopeo-sigstore", "cosign", "cosign2")
def test_who_compares_the_signed_repository_with_its_own_admits_a_replica(
    fleet: Fleet, skopeo: Skopeo, cosign: Cosign, cosign2: Cosign
) -> None:
    """gcp is a consumer of its own, eu is none."""
    release = shipped(fleet, CONSUMERS)
    source, gcp, eu = fleet.chain.place("app"), *(fleet.chain.target_place("app", name) for name in ("gcp", "eu"))
    own, exact = {"type": "matchRepository"}, signed_identity(str(source), str(eu))
    remapped = signed_identity(source.registry.name, eu.registry.name)
    assert (exact["type"], remapped["type"]) == ("exactRepository", "remapIdentity")
    digest, fixed, moving = f"@{release.digest}", ":v1.0.0", ":prod"
    for reference in (digest, fixed, moving):
        assert skopeo.admits(source, reference, own) == ""
        assert skopeo.admits(gcp, reference, own) == ""
        assert "identity" in skopeo.admits(eu, reference, own)
        assert skopeo.admits(eu, reference, exact) == ""
    for reference in (digest, fixed):
        assert skopeo.admits(eu, reference, remapped) == ""
    assert skopeo.admits(gcp, digest, {"type": "matchRepoDigestOrExact"}) == ""
    assert "identity" in skopeo.admits(eu, moving, remapped)
    assert "identity" in skopeo.admits(eu, digest, signed_identity(f"{source}2", str(eu)))
    assert "identity" in skopeo.admits(eu, digest, signed_identity("elsewhere.example", eu.registry.name))
    found = summaries(cosign, fleet, gcp, release)
    assert {str(each["verificationResult"]) for each in found} == {"PASSED"}
    private = fleet.chain.mirror_places("app", "airgap")[-1]
    located = {str(each["resourceUri"]).partition("?repository_url=")[2] for each in found}
    assert located == {"", str(gcp), str(private)}
    for program in (cosign, cosign2):
        assert program.verify(fleet.config.trusted_keys[0], f"{gcp}@{release.digest}").returncode == 0
    assert not fleet.chain.judge(release).changed and not fleet.chain.sign(release).changed


def summaries(cosign: Cosign, fleet: Fleet, place: Place, release: Release) -> list[dict[str, Any]]:
    done = cosign.verify_attestation(fleet.config.trusted_keys[0], VERDICT_TYPE, f"{place}@{release.digest}")
    assert done.returncode == 0, done.stderr
    payloads = [json.loads(base64.b64decode(json.loads(line)["payload"])) for line in done.stdout.splitlines()]
    return [payload["predicate"] for payload in payloads]
