"""What a signer says of weights that are a plain image: that its layers have the files which its config lists.

A signature of a model names files by their sha256, and a layer's digest tells nothing of them to who does not read it.
So who signs reads all layers once, and signs the config's digest: config and layers stay the same when the weights are
attached to an image. The gate asks for it; who pulls or verifies holds the bytes themselves against the files' digests.
"""

from __future__ import annotations

from collections.abc import Sequence

from registry_pipelines.errors import SignatureInvalid
from registry_pipelines.evidence.artifacts import attach_bundle
from registry_pipelines.evidence.bundles import read_bundle, write_bundle
from registry_pipelines.evidence.dsse import sign_envelope
from registry_pipelines.evidence.keys import verifier_of
from registry_pipelines.evidence.model import Rejected, Signer, Verifier
from registry_pipelines.evidence.predicates import WEIGHTS_IMAGE_TYPE
from registry_pipelines.evidence.statements import check_statement, read_statement, write_statement
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import Place
from registry_pipelines.weights.image_form import ImageForm
from registry_pipelines.weights.oms.attached import bundles_of


def vouch_for_layers(
    place: Place, subject: Descriptor, image: ImageForm, signer: Signer, certificates: Sequence[bytes] = ()
) -> bool:
    """Sign that the layers have what the config lists; whoever calls this has read them. False: this key said so
    before. certificates: as in :func:`~.bundles.sign_model`. Raises what a key service raises, the RegistryError
    family."""
    if not unvouched(place, subject.digest, image, verifier_of(signer), certificates):
        return False
    said = {"layers": [str(digest) for digest in image.sizes], "files": len(image.weights.files)}
    payload = write_statement(WEIGHTS_IMAGE_TYPE, said, subjects=[image.config.digest], name=place.repository)
    bundle = write_bundle(sign_envelope(payload, signer), key_id=signer.key_id, certificates=certificates)
    attach_bundle(place, subject=subject, content=bundle, predicate_type=WEIGHTS_IMAGE_TYPE)
    return True


def unvouched(
    place: Place, digest: Digest, image: ImageForm, verifier: Verifier, certificates: Sequence[bytes] = ()
) -> str:
    """Why nobody who is believed says that the layers have the listed files, one sentence; empty where somebody does.
    digest: of the manifest. certificates: asked for are bundles with exactly these, where there are some. Raises as
    ``read_signatures``."""
    problem = "nobody signed that its layers have these files"
    for referrer, raw in bundles_of(place, digest, WEIGHTS_IMAGE_TYPE):
        if isinstance(raw, Rejected):
            problem = raw.reason
            continue
        try:
            bundle = read_bundle(raw, where=str(referrer), chains=True)
            if certificates and bundle.certificates != tuple(certificates):
                continue
            key_ids = verifier.verify_bundle(bundle, chains=True)
            statement = read_statement(bundle.envelope.payload, where=str(referrer))
            check_statement(statement, image.config.digest, predicate_type=WEIGHTS_IMAGE_TYPE)
            verifier.vouching(key_ids, WEIGHTS_IMAGE_TYPE)
        except SignatureInvalid as error:
            problem = f"what is signed of its layers does not count: {error.what}"
            continue
        return ""
    return problem


def carry_vouching(source: Place, digest: Digest, image: ImageForm, place: Place, subject: Descriptor) -> int:
    """Attach what is signed of the layers to another manifest with the same config; how many are new. Believed is none
    here. digest: of the manifest at the source."""
    carried = 0
    for _, raw in bundles_of(source, digest, WEIGHTS_IMAGE_TYPE):
        if isinstance(raw, Rejected):
            continue
        try:
            statement = read_statement(read_bundle(raw, chains=True).envelope.payload)
            check_statement(statement, image.config.digest, predicate_type=WEIGHTS_IMAGE_TYPE)
        except SignatureInvalid:
            continue
        _, new = attach_bundle(place, subject=subject, content=raw, predicate_type=WEIGHTS_IMAGE_TYPE)
        carried += new
    return carried


__all__ = ["carry_vouching", "unvouched", "vouch_for_layers"]
