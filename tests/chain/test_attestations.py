"""Attestations of Binary Authorization: after an allowing verdict, once; taken back after a denying one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from google.cloud import binaryauthorization_v1 as binauthz
from grafeas import grafeas_v1 as grafeas

from registry_pipelines.chain import Chain
from registry_pipelines.config import load
from registry_pipelines.errors import ConfigInvalid, EvidenceMissing, Forbidden, InputError, SignatureInvalid
from registry_pipelines.evidence.keys import generate_key, load_signer
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.gar.access import GoogleAccess
from registry_pipelines.registry.gar.calls import GoogleCalls
from registry_pipelines.release import Release
from registry_pipelines.sign.binary_authorization import BinaryAuthorization, check_payload, payload_of
from tests.chain.fleet import Fleet, write_advisory
from tests.doubles.google import GoogleCloud
from tests.doubles.google.services import binaryauthorization, containeranalysis
from tests.doubles.google.services.containeranalysis import Analysis

NOTE, ATTESTOR = "projects/ml-prod/notes/prod", "projects/ml-prod/attestors/prod"
HOST = "europe-west1-docker.pkg.dev"
SOURCE, COPY = f"{HOST}/team/app", f"{HOST}/replicas/team/app"


@dataclass
class Project:
    """A fleet whose registry `us` is Artifact Registry's by its API, with an attestor that has the fleet's key."""

    fleet: Fleet
    google: GoogleCloud
    chain: Chain

    @property
    def kept(self) -> dict[str, grafeas.Occurrence]:
        return self.google.world.state(Analysis).occurrences

    def judged(self, tag: str = "v1") -> Release:
        release = self.fleet.release(tag)
        for stage in ("sbom", "vulnerabilities", "sign"):
            getattr(self.chain, stage)(release)
        return release


def attestor(google: GoogleCloud, *pems: bytes) -> None:
    """A note, and an attestor with these public keys."""
    note = grafeas.Note(attestation=grafeas.AttestationNote(hint={"human_readable_name": "prod"}))
    request = grafeas.CreateNoteRequest(parent="projects/ml-prod", note_id="prod", note=note)
    containeranalysis.create_note(google.world, request)
    algorithm = binauthz.PkixPublicKey.SignatureAlgorithm.ECDSA_P256_SHA256
    keys = [
        binauthz.AttestorPublicKey(
            pkix_public_key=binauthz.PkixPublicKey(public_key_pem=pem.decode(), signature_algorithm=algorithm)
        )
        for pem in pems
    ]
    made = binauthz.Attestor(user_owned_grafeas_note={"note_reference": NOTE, "public_keys": keys})
    request = binauthz.CreateAttestorRequest(parent="projects/ml-prod", attestor_id="prod", attestor=made)
    binaryauthorization.create_attestor(google.world, request)


@pytest.fixture
def project(fleet: Fleet, tmp_path: Path) -> Iterator[Project]:
    with GoogleCloud(tmp_path / "google") as google:
        us = fleet.config.registries["us"].client_address  # type: ignore[union-attr]
        gar = f"{{kind: gar, project: ml-prod, location: europe-west1, endpoint: '{google.endpoint}', "
        text = fleet.path.read_text().replace("registries:\n", f"registries:\n  gar: {gar}reachable_as: '{us}'}}\n", 1)
        text = text.replace("app: {registry: us,", "app: {registry: gar,").replace(
            "gcp: {registry: gcp,", "gcp: {registry: gar,"
        )
        asked = f"{{registry: gar, attestor: {ATTESTOR}}}"
        text = text.replace("{generate: true}", f"{{generate: true, binary_authorization: {asked}}}")
        fleet.path.write_text(text)
        chain = Chain(load(fleet.path, {}))
        generate_key(chain.config.signing_key)
        attestor(google, chain.config.signing_key.with_suffix(".pub").read_bytes())
        yield Project(fleet, google, chain)


def test_an_allowing_verdict_is_attested_once_for_each_place_in_artifact_registry(project: Project) -> None:
    release = project.judged()
    assert not project.kept
    with pytest.raises(EvidenceMissing, match="has not attested the image"):
        project.chain.verify(release)
    verdict = project.chain.judge(release)
    assert verdict.ok and f"attested for {SOURCE} by {ATTESTOR}" in str(verdict.rows)
    assert {each.resource_uri for each in project.kept.values()} == {
        f"https://{SOURCE}@{release.digest}",
        f"https://{COPY}@{release.digest}",
    }
    [kind] = {each.kind for each in project.kept.values()}
    assert kind == grafeas.NoteKind.ATTESTATION
    assert project.chain.judge(release).ok and len(project.kept) == 2
    rows = [row for row in project.chain.verify(release).rows if "Binary Authorization" in str(row["kind"])]
    assert len(rows) == 2 and {row["key"] for row in rows} == {ATTESTOR}


def test_a_denying_verdict_takes_it_back_and_so_does_a_revocation(project: Project) -> None:
    release = project.judged()
    project.chain.judge(release)
    write_advisory(project.fleet.folder / "advisories", package="goodwheel")
    project.chain.vulnerabilities(release)
    verdict = project.chain.judge(release)
    assert not verdict.ok and not project.kept and "taken back" in str(verdict.rows)
    other = project.judged("v2")
    assert not project.kept
    write_advisory(project.fleet.folder / "advisories")
    project.chain.vulnerabilities(other)
    project.chain.sign(other)
    assert project.chain.judge(other).ok and len(project.kept) == 2
    project.chain.revoke(other, reason="it is bad")
    assert not project.kept


def test_a_key_that_the_attestor_has_not_attests_nothing(project: Project, tmp_path: Path) -> None:
    stranger = load_signer(generate_key(tmp_path / "stranger.key").private)
    access = GoogleAccess("ml-prod", "europe-west1", endpoint=project.google.endpoint)
    authorization = BinaryAuthorization(GoogleCalls(access), ATTESTOR)
    digest = Digest.of(b"image")
    with pytest.raises(InputError, match="is none of the attestor's"):
        authorization.attest(SOURCE, digest, stranger)
    key_id = next(iter(authorization.keys().keys))
    payload = payload_of(SOURCE, digest)
    signature = {"signature": stranger.sign(payload), "public_key_id": key_id}
    for number, told in enumerate([payload, payload_of(COPY, digest), payload_of(SOURCE, Digest.of(b"other"))]):
        project.kept[f"projects/p/occurrences/{number}"] = grafeas.Occurrence(
            name=f"projects/p/occurrences/{number}",
            resource_uri=f"https://{SOURCE}@{digest}",
            note_name=NOTE,
            kind=grafeas.NoteKind.ATTESTATION,
            attestation={"serialized_payload": told, "signatures": [signature]},
        )
    with pytest.raises(SignatureInvalid) as raised:
        authorization.verify(SOURCE, digest)
    assert "no key of the attestor made its signature" in str(raised.value)
    assert str(raised.value).count("the payload is about") == 2
    own = load_signer(project.chain.config.signing_key)
    assert authorization.attest(SOURCE, digest, own).changed  # what strangers wrote does not stand for ours
    believed, rejected = authorization.verify(SOURCE, digest)
    assert len(believed) == 1 and len(rejected) == 3
    assert not authorization.attest(SOURCE, digest, own).changed


def test_cosigns_payload_is_no_attestation() -> None:
    digest = Digest.of(b"image")
    check_payload(payload_of("host/app", digest), "host/app", digest)
    newer = payload_of("host/app", digest).replace(b"Google cloud binauthz", b"Google Cloud BinAuthz")
    check_payload(newer, "host/app", digest)
    cosign = payload_of("host/app", digest).replace(b"Google cloud binauthz container", b"cosign container image")
    for bad in (cosign, b"{}", b"\xff", payload_of("host/other", digest)):
        with pytest.raises(SignatureInvalid):
            check_payload(bad, "host/app", digest)


def test_what_google_refuses_ends_the_judgement_visibly(project: Project) -> None:
    release = project.judged()
    project.google.world.deny("containeranalysis.occurrences.create")
    with pytest.raises(Forbidden, match="containeranalysis"):
        project.chain.judge(release)
    assert not project.kept


def test_a_registry_of_another_kind_is_refused(project: Project) -> None:
    text = project.fleet.path.read_text().replace("{registry: gar, attestor", "{registry: us, attestor")
    project.fleet.path.write_text(text)
    with pytest.raises(ConfigInvalid, match="name a registry of the kind `gar`"):
        load(project.fleet.path, {})
