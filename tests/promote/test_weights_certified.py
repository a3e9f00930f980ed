"""The gate over weights that a publisher signed by certificate: who is named is believed, and alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from registry_pipelines.evidence.attestors import AttestorCertificates, AttestorFiles
from registry_pipelines.evidence.keys import KeySet, load_signer, load_verifier
from registry_pipelines.evidence.notation.signers import chain_for_models
from registry_pipelines.evidence.predicates import OMS_TYPE
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.promote.documents import DEFAULT_POLICY, Policy, Verdict, WeightRules
from registry_pipelines.promote.judge import judge
from registry_pipelines.promote.standing import read_standing
from registry_pipelines.promote.verdicts import publish as publish_verdict
from registry_pipelines.registry.protocol import Place
from registry_pipelines.weights.attach import attach_weights
from registry_pipelines.weights.ends import from_folder, from_registry
from registry_pipelines.weights.oms.attached import read_signatures, sign_attached
from registry_pipelines.weights.oms.images import vouch_for_layers
from registry_pipelines.weights.opening import OpenedWeights, open_weights
from registry_pipelines.weights.to_image import register_image
from registry_pipelines.weights.to_registry import register_weights
from tests.doubles.authorities import Issued, make_root
from tests.promote.parts import NOW, Candidate

ROOT, OTHER = make_root(), make_root()
LEAF = ROOT.issue("middle", ca=True).issue("models")


class Gate:
    """Weights of a release, who may sign them, and what the gate says."""

    def __init__(self, item: Candidate, folder: Path) -> None:
        self.item, self.folder = item, folder
        (folder / "m").mkdir()
        (folder / "m/a.safetensors").write_bytes((8).to_bytes(8, "little") + b'{"a":{}}')
        self.place = Place(item.place.registry, "models/m")
        register_weights(from_folder(folder / "m")[0], self.place, "m")
        self.opened = open_weights(self.place, "m")

    def file(self, name: str, content: bytes) -> Path:
        (self.folder / name).write_bytes(content)
        return self.folder / name

    def verifier(self, **roots: Issued) -> KeySet:
        """Attestors of weights by their authorities."""
        attestors = {}
        for name, root in roots.items():
            file = self.file(f"{name}.pem", root.certificate.public_bytes(Encoding.PEM))
            certificates = AttestorCertificates(roots=(file,), identities=("x509.subject: CN=models",))
            attestors[name] = AttestorFiles(["weights"], certificates=certificates)
        return load_verifier([self.item.key.public], attestors=attestors)

    def sign(self, opened: OpenedWeights, issued: Issued) -> tuple[Any, tuple[bytes, ...]]:
        signer = load_signer(self.file("leaf.key", issued.key_pem))
        chain = chain_for_models(signer, self.file("leaf.pem", issued.pem))
        assert sign_attached(opened, signer, chain)[1]
        assert not sign_attached(opened, signer, chain)[1]
        return signer, chain

    def attach(self, opened: OpenedWeights) -> str:
        return str(attach_weights(self.item.place, str(self.item.top.digest), opened).descriptor.digest)

    def verdict(self, verifier: KeySet, attestors: str = "") -> Verdict:
        policy = Policy(
            attestors=attestors, weights=WeightRules(signed=True, required=True), required=DEFAULT_POLICY.required
        )
        return judge(self.item.place, self.item.top, policy, verifier, image="app", now=NOW)


@pytest.fixture
def gate(good: Candidate, tmp_path: Path) -> Gate:
    return Gate(good, tmp_path)


def test_a_publisher_that_is_named_is_believed(gate: Gate) -> None:
    gate.sign(gate.opened, LEAF)
    digest = gate.attach(gate.opened)
    verifier = gate.verifier(publisher=ROOT, stranger=OTHER)
    verdict = gate.verdict(verifier, "publisher")
    assert verdict.allow, verdict.reasons
    [used] = [each for each in verdict.evidence if each.predicate_type == OMS_TYPE]
    assert used.key_id.startswith("certificate:") and used.key_id.endswith(" publisher")
    denied = gate.verdict(verifier, "stranger").reasons
    assert f"attestor stranger: no signature of the weights {digest} is by its keys or certificates" in denied
    assert any(f"weights: {digest}: no signature counts" in each and "not as stranger" in each for each in denied)
    [reason] = gate.verdict(verifier).reasons
    assert "which is trusted, but not as person or builder" in reason


def test_without_a_policy_it_counts_beside_the_roles(gate: Gate) -> None:
    gate.sign(gate.opened, LEAF)
    sign_attached(gate.opened, gate.item.key.signer)
    place, digest, weights = gate.opened.place, gate.opened.descriptor.digest, gate.opened.weights
    both = read_signatures(place, digest, weights, gate.verifier(publisher=ROOT))
    assert {each.key_id[:7] for each in both.believed} == {"certifi", "sha256:"}
    assert len(read_signatures(place, digest, weights, gate.verifier(publisher=OTHER)).believed) == 1
    named = read_signatures(place, digest, weights, gate.verifier(publisher=ROOT).under(["publisher"]))
    assert [each.key_id[:7] for each in named.believed] == ["certifi"]


def test_one_certificate_counts_once(gate: Gate) -> None:
    gate.sign(gate.opened, LEAF)
    gate.attach(gate.opened)
    verifier = gate.verifier(one=ROOT, two=ROOT)
    assert gate.verdict(verifier, "one or two").allow
    [reason] = gate.verdict(verifier, "one and two").reasons
    assert "one key counts once" in reason and "certificate:" in reason
    gate.sign(gate.opened, ROOT.issue("models"))
    gate.attach(gate.opened)
    assert gate.verdict(verifier, "one and two").allow


def test_a_verdict_ends_with_the_attestor(gate: Gate) -> None:
    gate.sign(gate.opened, LEAF)
    gate.attach(gate.opened)
    verifier = gate.verifier(publisher=ROOT)
    item, verdict = gate.item, gate.verdict(verifier, "publisher")
    publish_verdict(item.place, item.top, verdict, item.key.signer, verifier)

    def ended(now: KeySet) -> list[str]:
        from registry_pipelines.evidence.attestations import read_attestations

        known = read_attestations(item.place, item.top.digest, now)
        return list(read_standing(item.place, item.release, known, now).ended.values())

    assert ended(verifier.under(["publisher"])) == []
    assert ended(gate.verifier(other=ROOT).under(["other"])) == ["is not trusted for that any more"]


def test_of_a_plain_image_the_signer_of_layers_may_be_either(gate: Gate) -> None:
    register_image(from_registry(gate.opened), gate.place, "image", platform=Platform.parse("linux/amd64"))
    opened = open_weights(gate.place, "image")
    assert opened.image
    signer, chain = gate.sign(opened, LEAF)
    verifier = gate.verifier(publisher=ROOT)
    gate.attach(opened)
    [reason] = [each for each in gate.verdict(verifier, "publisher").reasons if each.startswith("weights")]
    assert "nobody signed that its layers have these files" in reason
    assert vouch_for_layers(opened.place, opened.descriptor, opened.image, signer, chain)
    assert not vouch_for_layers(opened.place, opened.descriptor, opened.image, signer, chain)
    gate.attach(opened)
    assert gate.verdict(verifier, "publisher").allow


def test_our_builder_may_sign_what_layers_have(gate: Gate, make_key: Callable[[str], Any]) -> None:
    """A publisher signs files; the image of them is made here."""
    register_image(from_registry(gate.opened), gate.place, "image", platform=Platform.parse("linux/amd64"))
    opened = open_weights(gate.place, "image")
    assert opened.image
    gate.sign(opened, LEAF)
    vouch_for_layers(opened.place, opened.descriptor, opened.image, gate.item.key.signer)
    gate.attach(opened)
    assert gate.verdict(gate.verifier(publisher=ROOT), "publisher").allow
