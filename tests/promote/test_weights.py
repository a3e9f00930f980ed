"""One gate over image and weights: who signed the weights, what they are, and what came after the verdict."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from registry_pipelines.evidence.artifacts import attach, bundle_annotations
from registry_pipelines.evidence.bundles import write_bundle
from registry_pipelines.evidence.dsse import sign_envelope
from registry_pipelines.evidence.predicates import OMS_TYPE
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import SIGSTORE_BUNDLE
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.promote.documents import DEFAULT_POLICY, Policy, Verdict, WeightRules
from registry_pipelines.promote.leaving import read_leaving
from registry_pipelines.promote.weights import WEIGHTS_FORM
from registry_pipelines.registry.protocol import Place
from registry_pipelines.weights.attach import attach_weights
from registry_pipelines.weights.ends import from_folder, from_registry
from registry_pipelines.weights.oms.attached import (
    carry_signatures,
    read_signatures,
    sign_attached,
    signature_bytes,
)
from registry_pipelines.weights.oms.bundles import sign_model
from registry_pipelines.weights.oms.folders import verify_folder
from registry_pipelines.weights.oms.images import vouch_for_layers
from registry_pipelines.weights.oms.statement import write_oms
from registry_pipelines.weights.opening import OpenedWeights, open_weights
from registry_pipelines.weights.to_image import register_image
from registry_pipelines.weights.to_registry import register_weights
from tests.evidence.parts import Key
from tests.promote.parts import NOW, Candidate

TENSORS = (8).to_bytes(8, "little") + b'{"a":{}}'


def rules(**fields: Any) -> Policy:
    return msgspec.structs.replace(DEFAULT_POLICY, weights=WeightRules(**fields))


@pytest.fixture
def pushed(good: Candidate, tmp_path: Path) -> Callable[..., OpenedWeights]:
    """Weights in another repository of the release's registry."""

    def push(name: str = "m", **more: bytes) -> OpenedWeights:
        folder = tmp_path / name
        files = {"a.safetensors": TENSORS + name.encode(), "config.json": b"{}\n", **more}
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        place = Place(good.place.registry, "models/m")
        register_weights(from_folder(folder)[0], place, name)
        return open_weights(place, name)

    return push


def give(release: Candidate, weights: OpenedWeights) -> Descriptor:
    return attach_weights(release.place, str(release.top.digest), weights).descriptor


def weighed(verdict: Verdict) -> list[str]:
    return [reason for reason in verdict.reasons if reason.startswith("weights: ")]


def test_signed_weights_pass_with_their_image(good: Candidate, pushed: Callable[..., OpenedWeights]) -> None:
    opened = pushed()
    assert sign_attached(opened, good.key.signer)[1]
    assert not sign_attached(opened, good.key.signer)[1]
    attached = give(good, opened)
    verdict = good.judge(rules(required=True, signed=True, deny=("pickle", "unknown", "code")))
    assert verdict.allow, verdict.reasons
    used = {each.predicate_type: each for each in verdict.evidence}
    assert (used[WEIGHTS_FORM].digest, used[WEIGHTS_FORM].key_id) == (attached.digest, "")
    assert used[OMS_TYPE].key_id == good.key.signer.key_id
    assert good.judge().allow


def test_of_a_plain_image_somebody_must_sign_what_its_layers_have(
    good: Candidate, pushed: Callable[..., OpenedWeights], make_key: Callable[[str], Key]
) -> None:
    """A signature of the files says nothing of layers, which a list in the config may be wrong about."""
    source = from_registry(pushed())
    register_image(source, Place(good.place.registry, "models/m"), "image", platform=Platform.parse("linux/amd64"))
    opened = open_weights(Place(good.place.registry, "models/m"), "image")
    assert opened.image
    sign_attached(opened, good.key.signer)
    vouch_for_layers(opened.place, opened.descriptor, opened.image, make_key("somebody").signer)
    attached = give(good, opened)
    assert weighed(good.judge(rules(required=True))) == []
    [reason] = weighed(good.judge(rules(signed=True)))
    assert reason.startswith(f"weights: {attached.digest}: what is signed of its layers does not count")
    [reason] = weighed(good.judge(rules(deny=("pickle",))))
    assert reason.startswith(f"weights: {attached.digest}: cannot be judged: what is signed of its layers")
    assert vouch_for_layers(opened.place, opened.descriptor, opened.image, good.key.signer)
    assert not vouch_for_layers(opened.place, opened.descriptor, opened.image, good.key.signer)
    give(good, opened)
    assert good.judge(rules(required=True, signed=True, deny=("pickle", "unknown", "code"))).allow


def test_no_weights_are_denied_where_some_are_required(good: Candidate) -> None:
    verdict = good.judge(rules(required=True))
    assert weighed(verdict) == list(verdict.reasons) == ["weights: none are attached to this release"]
    assert [(step.kind, step.about) for step in verdict.steps] == [("weights", ("attach",)), ("judge", ())]
    assert good.judge(rules(signed=True, deny=("pickle",))).allow


def test_unsigned_weights_are_denied(good: Candidate, pushed: Callable[..., OpenedWeights]) -> None:
    attached = give(good, pushed())
    verdict = good.judge(rules(signed=True))
    assert weighed(verdict) == [f"weights: {attached.digest}: no signature is attached"]
    assert [step.kind for step in verdict.steps] == ["weights", "judge"]
    sign_attached(open_weights(good.place, str(attached.digest)), good.key.signer)
    assert good.judge(rules(signed=True)).allow


def test_a_signature_by_somebody_else_does_not_count(
    good: Candidate, pushed: Callable[..., OpenedWeights], make_key: Callable[[str], Key]
) -> None:
    opened = pushed()
    sign_attached(opened, make_key("somebody").signer)
    attached = give(good, opened)
    [reason] = weighed(good.judge(rules(signed=True)))
    assert reason.startswith(f"weights: {attached.digest}: no signature counts: none of its 1 signature was made by a")


def test_a_signature_of_other_files_does_not_count(good: Candidate, pushed: Callable[..., OpenedWeights]) -> None:
    """One shard changed: what was signed before is put beside it by whoever may push, and is nothing."""
    before, after = pushed("m"), pushed("n")
    sign_attached(before, good.key.signer)
    attached = give(good, after)
    raw = sign_model({file.path: file.digest.hex for file in before.weights.files}, good.key.signer, name="m")
    attach(
        good.place,
        subject=attached,
        artifact_type=SIGSTORE_BUNDLE,
        content=raw,
        media_type=SIGSTORE_BUNDLE,
        annotations=bundle_annotations(OMS_TYPE),
    )
    [reason] = weighed(good.judge(rules(signed=True)))
    assert reason.endswith("no signature counts: it is about other files: a.safetensors has other content")
    assert carry_signatures(before, good.place, attached) == 1
    assert not good.judge(rules(signed=True)).allow


def test_what_a_signature_leaves_out_is_not_signed(good: Candidate, pushed: Callable[..., OpenedWeights]) -> None:
    """A signer may leave paths out; the gate takes no file that nobody signed, but for those that git keeps."""
    opened = pushed(**{"cache/x.py": b"import os\n"})
    names = {file.path: file.digest.hex for file in opened.weights.files if not file.path.startswith("cache/")}
    attached = give(good, opened)
    said = json.loads(write_oms(names, name="m"))
    for ignored, expected in (("other", "cache/x.py is not signed"), ("cache", "its signature leaves out cache/x.py")):
        said["predicate"]["serialization"]["ignore_paths"] = [ignored]
        raw = write_bundle(sign_envelope(json.dumps(said).encode(), good.key.signer), hint="00")
        attach(good.place, subject=attached, artifact_type=SIGSTORE_BUNDLE, content=raw, media_type=SIGSTORE_BUNDLE)
        assert weighed(good.judge(rules(signed=True)))[0].endswith(expected)


DENIED = {
    "pickle": (pickle.dumps([1]), ("pickle",), "pickle"),
    "zip": (b"PK\3\4" + bytes(60), ("pickle",), "pickle (zip)"),
    "unknown": (b"\x07\x01" * 30, ("unknown",), "unknown"),
    "code": (b"import os\n", ("code",), "code"),
}


@pytest.mark.parametrize("what", DENIED)
def test_formats_are_denied_by_content(good: Candidate, pushed: Callable[..., OpenedWeights], what: str) -> None:
    content, deny, said = DENIED[what]
    name = "modeling.py" if what == "code" else "extra.safetensors"
    attached = give(good, pushed(**{name: content}))
    verdict = good.judge(rules(deny=deny))
    assert weighed(verdict) == [f"weights: {attached.digest}: denied formats: {name} is {said}"]
    others = tuple(each for each in ("pickle", "unknown", "code") if each not in deny)
    assert good.judge(rules(deny=others)).allow


def test_weights_that_come_after_the_verdict_stop_the_release(
    good: Candidate, pushed: Callable[..., OpenedWeights], make_key: Callable[[str], Key]
) -> None:
    """Who may push attaches other weights to a release that passed: nothing may leave until it is judged again."""
    policy = rules(signed=True)
    opened = pushed()
    sign_attached(opened, good.key.signer)
    give(good, opened)
    good.publish(good.judge(policy))

    def run() -> list[str]:
        leaving = read_leaving(good.place, good.release, policy, good.key.verifier)
        return [reason for reason in leaving.may_run(NOW).reasons if reason.startswith("weights")]

    assert run() == []
    later = give(good, pushed("evil"))
    assert run() == [f"weights: {later.digest} was attached after the verdict"]
    assert weighed(good.judge(policy)) == [f"weights: {later.digest}: no signature is attached"]


def test_weights_of_one_platform_count(good: Candidate, pushed: Callable[..., OpenedWeights]) -> None:
    """Who names an image of the release by its digest gets what is attached to that."""
    policy = rules(signed=True)
    good.publish(good.judge(policy))
    attached = attach_weights(good.place, str(good.children[1].digest), pushed()).descriptor
    assert weighed(good.judge(policy)) == [f"weights: {attached.digest}: no signature is attached"]
    leaving = read_leaving(good.place, good.release, policy, good.key.verifier)
    assert f"weights: {attached.digest} was attached after the verdict" in leaving.may_run(NOW).reasons


def test_what_cannot_be_read_is_denied(good: Candidate) -> None:
    """A manifest that says it is weights and names a file outside of every folder."""
    from registry_pipelines.oci import media_types
    from registry_pipelines.oci.manifests import Manifest, manifest_bytes
    from registry_pipelines.registry.blobs import push_blob
    from registry_pipelines.weights.model import ARTIFACT_TYPE, CONFIG_TYPE, TITLE

    config = push_blob(good.place, b"{}", media_type=CONFIG_TYPE)
    layer = push_blob(good.place, b"x", media_type="application/vnd.cncf.model.weight.v1.raw")
    made = manifest_bytes(
        Manifest(
            schema_version=2,
            media_type=media_types.OCI_MANIFEST,
            artifact_type=ARTIFACT_TYPE,
            config=config,
            layers=(msgspec.structs.replace(layer, annotations={TITLE: "../x"}),),
            subject=Descriptor(media_type=good.top.media_type, digest=good.top.digest, size=good.top.size),
        )
    )
    good.place.registry.put_manifest(good.place.repository, made)
    [reason] = weighed(good.judge(rules(signed=True)))
    assert reason.startswith(f"weights: {made.digest}: cannot be judged: these weights are not taken")


def test_what_is_attached_and_damaged_is_denied_as_it_may_be_weights(
    good: Candidate, pushed: Callable[..., OpenedWeights], tmp_path: Path
) -> None:
    """Unsigned weights whose manifest the registry lost the bytes of, before the verdict and after it."""
    policy = rules(signed=True)
    good.publish(good.judge(policy))
    attached = give(good, pushed())
    [stored] = [path for path in tmp_path.rglob(f"*{attached.digest.hex}*") if path.is_file()]
    stored.write_bytes(b"{}")
    [reason] = weighed(good.judge(policy))
    assert reason.startswith(f"weights: {attached.digest}: cannot be judged: it is attached and cannot be read")
    leaving = read_leaving(good.place, good.release, policy, good.key.verifier)
    assert f"weights: {attached.digest} was attached after the verdict" in leaving.may_run(NOW).reasons


def test_a_pulled_folder_is_verified_by_the_signature_of_the_registry(
    good: Candidate, pushed: Callable[..., OpenedWeights], tmp_path: Path
) -> None:
    opened = pushed()
    sign_attached(opened, good.key.signer)
    found = read_signatures(opened.place, opened.descriptor.digest, opened.weights, good.key.verifier)
    [signature] = found.believed
    manifest = opened.place.registry.get_manifest(opened.place.repository, signature.digest)
    assert json.loads(manifest.raw)["annotations"] == {
        "dev.sigstore.bundle.content": "dsse-envelope",
        "dev.sigstore.bundle.predicateType": OMS_TYPE,
    }
    assert (tmp_path / "m").is_dir() and not (tmp_path / "m/model.sig").exists()
    (tmp_path / "m/model.sig").write_bytes(signature_bytes(opened.place, signature))
    assert verify_folder(tmp_path / "m", good.key.verifier).files == 2
