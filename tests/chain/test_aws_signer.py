"""Signatures that AWS makes: by AWS Signer on request, by ECR when an image is pushed; and who believes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from registry_pipelines.chain import Chain
from registry_pipelines.config import load
from registry_pipelines.errors import ConfigInvalid, EvidenceMissing, RegistryError, SignatureInvalid, Unavailable
from registry_pipelines.evidence.notation.aws_signer import is_trusted
from registry_pipelines.evidence.notation.envelope import Target, write_payload
from registry_pipelines.registry.client.retries import Retries
from registry_pipelines.registry.ecr.access import AwsAccess
from registry_pipelines.registry.ecr.calls import AwsCalls
from registry_pipelines.release import Release
from registry_pipelines.sign.aws_signer import wait_until_signed
from registry_pipelines.sign.notation import attach_envelope
from tests.chain.fleet import Fleet
from tests.doubles.aws.ecr_places import Image, Repository
from tests.doubles.aws.ecr_registry import EcrRegistries
from tests.doubles.aws.ecr_signing import EcrSigning
from tests.doubles.aws.front import ACCOUNT, AwsDouble
from tests.doubles.aws.signer_signing import SignerSigning
from tests.sign.notations import Notation

REGION = "eu-west-1"
PROFILE = f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/team"


@dataclass
class Account:
    """A fleet whose registry `us` is ECR's by its API."""

    fleet: Fleet
    aws: AwsDouble

    @property
    def signer(self) -> SignerSigning:
        return self.aws.area(SignerSigning)

    def chain(
        self, aws: str = "profile: team", *, identities: tuple[str, ...] = (PROFILE,), level: str = "strict"
    ) -> Chain:
        us = self.fleet.config.registries["us"].client_address  # type: ignore[union-attr]
        ecr = f"{{kind: ecr, account: '{ACCOUNT}', region: {REGION}, endpoint: '{self.aws.url}', reachable_as: '{us}'}}"
        trust = Notation("", self.fleet.folder / "home").trust(
            trustStores=["signingAuthority:aws"],
            trustedIdentities=list(identities),
            signatureVerification={"level": level},
        )
        store = trust / "truststore" / "x509" / "signingAuthority" / "aws"
        store.mkdir(parents=True, exist_ok=True)
        (store / "root.pem").write_bytes(self.signer.root.pem)
        text = self.fleet.folder / "whole.yaml"
        if not text.exists():
            text.write_text(self.fleet.path.read_text())
        told = text.read_text().replace("registries:\n", f"registries:\n  ecr: {ecr}\n", 1)
        told = told.replace("app: {registry: us,", "app: {registry: ecr,")
        notation = f"{{aws: {{registry: ecr, {aws}}}, trust: {trust}}}" if aws else f"{{trust: {trust}}}"
        told = told.replace("signing: {generate: true}", f"signing: {{generate: true, notation: {notation}}}")
        self.fleet.path.write_text(told)
        return Chain(load(self.fleet.path, {}))


@pytest.fixture
def account(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    with AwsDouble() as aws:
        for name, value in aws.environment.items():
            monkeypatch.setenv(name, value)
        client = boto3.client("signer", region_name=REGION)
        client.put_signing_profile(profileName="team", platformId="Notation-OCI-SHA384-ECDSA")
        yield Account(fleet, aws)


@pytest.fixture
def release(account: Account) -> Release:
    found = account.fleet.release("v1")
    place = account.fleet.chain.place("app")
    there = account.aws.area(EcrRegistries).at(ACCOUNT, REGION)
    repository = there.repositories.setdefault(place.repository, Repository(place.repository))
    manifest = place.registry.get_manifest(place.repository, found.digest)
    repository.images[str(found.digest)] = Image(manifest.raw, manifest.media_type)
    return found


def test_aws_signer_signs_once_and_our_trust_policy_believes_the_profile(account: Account, release: Release) -> None:
    chain = account.chain()
    rows = [row for row in chain.sign(release).rows if "AWS Signer" in str(row["kind"])]
    assert [(row["kind"], row["new"]) for row in rows] == [("signature (AWS Signer, team)", True)]
    assert chain.sign(release).rows[2]["new"] is False and account.aws.count("SignPayload") == 1
    verified = chain.verify(release)
    assert [row["kind"] for row in verified.rows if "notation" in str(row["kind"])] == ["signature (notation jws)"]
    [asked] = account.signer.asked
    assert asked["platformId"] == "Notation-OCI-SHA384-ECDSA" and asked["jobArn"] == account.signer.jobs[0]
    assert asked["profileVersionArn"].startswith(f"{PROFILE}/") and len(asked["certificateHashes"]) == 2


@pytest.mark.parametrize(
    "identities",
    [
        ("*",),
        (f"{PROFILE}x",),
        ("arn:aws:signer:eu-west-1:999999999999:/signing-profiles/team",),
        (f"{PROFILE}/Other12345",),
    ],
)
def test_only_a_profile_that_is_named_is_believed(
    account: Account, release: Release, identities: tuple[str, ...]
) -> None:
    account.chain().sign(release)
    with pytest.raises(SignatureInvalid, match="is not among the trusted identities"):
        account.chain(identities=identities).verify(release)


def test_what_aws_took_back_is_not_believed_and_not_asking_is_no_pass(account: Account, release: Release) -> None:
    account.chain().sign(release)
    account.signer.revoked.add(account.signer.jobs[0])
    with pytest.raises(SignatureInvalid, match="AWS Signer took it back"):
        account.chain().verify(release)
    account.signer.revoked = {account.signer.asked[0]["certificateHashes"][0]}
    with pytest.raises(SignatureInvalid, match="AWS Signer took it back"):
        account.chain().verify(release)
    account.signer.revoked.clear()
    assert account.chain().verify(release).ok
    account.aws.deny("signer:GetRevocationStatus")
    with pytest.raises(SignatureInvalid, match="cannot be asked"):
        account.chain().verify(release)
    with pytest.raises(SignatureInvalid, match="is not asked whether it took the signature back"):
        account.chain(aws="").verify(release)
    assert "only logged" in "\n".join(account.chain(aws="", level="permissive").verify(release).reasons)


@pytest.mark.parametrize(
    "changes",
    [
        {"io.cncf.notary.verificationPlugin": "com.example.other"},
        {"com.amazonaws.signer.signingProfileVersion": None},
        {"com.amazonaws.signer.newAttribute": "x"},
        {"io.cncf.notary.authenticSigningTime": None},
        {"io.cncf.notary.expiry": "2020-01-01T00:00:00Z"},
    ],
)
def test_an_envelope_that_says_something_else_is_not_believed(
    account: Account, release: Release, changes: dict[str, Any]
) -> None:
    chain = account.chain()
    chain.sign(release)
    place = account.fleet.chain.place("app")
    found = place.registry.resolve(place.repository, release.digest)
    payload = write_payload(Target(found.media_type, str(found.digest), found.size))
    raw = account.signer.envelope(payload, f"{PROFILE}/AbCdEfGhIj", REGION, ACCOUNT, **changes)
    other = account.fleet.release("v2")
    there = place.registry.resolve(place.repository, other.digest)
    attach_envelope(place, there, "application/jose+json", raw, {})
    with pytest.raises((SignatureInvalid, EvidenceMissing)):
        Chain(chain.config).verify(other)


def test_an_answer_of_aws_that_is_about_something_else_is_not_attached(
    account: Account, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = account.chain()
    honest = account.signer.envelope
    payload = json.dumps({"targetArtifact": {"mediaType": "x", "digest": f"sha256:{'0' * 64}", "size": 1}}).encode()
    monkeypatch.setattr(account.signer, "envelope", lambda _, *rest: honest(payload, *rest))
    with pytest.raises(SignatureInvalid, match="the signature is over"):
        chain.sign(release)
    account.aws.deny("signer:SignPayload")
    with pytest.raises(RegistryError, match="signer:SignPayload"):
        chain.sign(release)


def status(state: str, **more: str) -> dict[str, str]:
    return {"signingProfileArn": PROFILE, "status": state, **more}


def test_managed_signing_is_waited_for_and_its_failure_is_told(account: Account, release: Release) -> None:
    states = account.aws.area(EcrSigning).statuses
    digest = str(release.digest)
    calls = AwsCalls(AwsAccess(REGION, endpoint=account.aws.url), retries=Retries(sleep=lambda _: None))
    with pytest.raises(EvidenceMissing, match="no signing rule"):
        wait_until_signed(calls, ACCOUNT, "team/app", release.digest, wait_s=3)
    states[digest] = [[], [status("IN_PROGRESS")], [status("COMPLETE"), status("IN_PROGRESS")], [status("COMPLETE")]]
    [done] = wait_until_signed(calls, ACCOUNT, "team/app", release.digest)
    assert done.status == "COMPLETE" and account.aws.count("DescribeImageSigningStatus") >= 4
    states[digest] = [[status("IN_PROGRESS")]]
    with pytest.raises(Unavailable, match="has not signed the image within"):
        wait_until_signed(calls, ACCOUNT, "team/app", release.digest, wait_s=3)
    states[digest] = [[status("FAILED", failureCode="AccessDenied", failureReason="signer:SignPayload")]]
    with pytest.raises(SignatureInvalid, match="AccessDenied: signer:SignPayload"):
        account.chain("managed: true").sign(release)
    states[digest] = [[status("COMPLETE")]]
    rows = account.chain("managed: true").sign(release).rows
    assert "signature (ECR, team)" in [row["kind"] for row in rows]


def test_whom_a_policy_means() -> None:
    version = {"com.amazonaws.signer.signingProfileVersion": f"{PROFILE}/AbCdEfGhIj"}
    alias = {**version, "com.amazonaws.signer.signingProfileAlias": "arn:aws:signer:eu-west-1:1:/aliases/a"}
    assert is_trusted(version, [PROFILE]) and is_trusted(version, [f"{PROFILE}/AbCdEfGhIj"])
    assert is_trusted(alias, ["arn:aws:signer:eu-west-1:1:/aliases/a"])
    assert not is_trusted(version, ["*"]) and not is_trusted(version, []) and not is_trusted({}, [PROFILE])
    assert not is_trusted({"com.amazonaws.signer.signingProfileVersion": PROFILE}, [PROFILE])


def test_settings_that_ask_nobody_are_refused(account: Account) -> None:
    with pytest.raises(ConfigInvalid, match="whose `profile` it is"):
        account.chain("owner: '111122223333'")
    text = account.fleet.path.read_text().replace("aws: {registry: ecr, owner: '111122223333'}", "aws: {registry: us}")
    account.fleet.path.write_text(text)
    with pytest.raises(ConfigInvalid, match="name a registry of the kind `ecr`"):
        load(Path(account.fleet.path), {})
