"""Signatures of weights in a registry: Sigstore bundles that refer to the weights' manifest.

A signature is about the files and names no manifest, so it holds for every manifest with the same files: what weights
that stand alone have is carried over when they are attached to an image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from registry_pipelines.errors import InputError, SignatureInvalid
from registry_pipelines.evidence.artifacts import PREDICATE_ANNOTATION, attach_bundle
from registry_pipelines.evidence.bounds import MAX_BUNDLE_BYTES
from registry_pipelines.evidence.bundles import read_bundle
from registry_pipelines.evidence.keys import verifier_of
from registry_pipelines.evidence.model import Rejected, Signer, Verifier
from registry_pipelines.evidence.predicates import OMS_TYPE
from registry_pipelines.evidence.referrers import Referrer, open_referrers, read_layer
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import SIGSTORE_BUNDLE
from registry_pipelines.progress import count_text
from registry_pipelines.registry.protocol import Place
from registry_pipelines.weights.model import WeightSet
from registry_pipelines.weights.oms.bundles import believe, certified_by, sign_model
from registry_pipelines.weights.oms.folders import SHOWN
from registry_pipelines.weights.oms.statement import NEVER_SIGNED, SignedModel, read_oms
from registry_pipelines.weights.opening import OpenedWeights


@dataclass(frozen=True)
class WeightSignature:
    """A signature that is believed and fits the files. digest: of the manifest that carries it. unsigned: files that
    it leaves out by its own word, or the specification's. certificates: that it brings along, DER, the signer's
    first."""

    digest: Digest
    key_id: str
    model: SignedModel
    unsigned: tuple[str, ...]
    certificates: tuple[bytes, ...] = ()

    @property
    def certified(self) -> str:
        """See :attr:`~.bundles.Believed.certified`."""
        return certified_by(self.key_id, self.certificates)

    @property
    def loose(self) -> list[str]:
        """Files that it leaves out beside what git keeps, which no signature of a model names."""
        return [path for path in self.unsigned if path.split("/")[0] not in NEVER_SIGNED]


@dataclass(frozen=True)
class WeightSignatures:
    """What is attached and counts, and what is attached and does not."""

    believed: tuple[WeightSignature, ...]
    rejected: tuple[Rejected, ...]

    @property
    def problem(self) -> str:
        """Why there is none, one sentence; empty where there is one."""
        if self.believed:
            return ""
        if not self.rejected:
            return "no signature is attached"
        more = f" (and {len(self.rejected) - 1} more)" if len(self.rejected) > 1 else ""
        return f"no signature counts: {self.rejected[0].reason}{more}"

    @property
    def of_all(self) -> tuple[WeightSignature, ...]:
        """Those that are believed and leave out no file."""
        return tuple(each for each in self.believed if not each.loose)

    @property
    def problem_of_all(self) -> str:
        """Why there is none of all files, one sentence; empty where there is one."""
        if not self.believed or self.of_all:
            return self.problem
        loose = self.believed[0].loose
        more = f", and {count_text(len(loose) - SHOWN, 'more', 'more')}" if len(loose) > SHOWN else ""
        return f"its signature leaves out {', '.join(loose[:SHOWN])}{more}"


def sign_attached(opened: OpenedWeights, signer: Signer, certificates: Sequence[bytes] = ()) -> tuple[Descriptor, bool]:
    """Sign weights in a registry, by the digests that its manifest has of the files; nothing is read. The carrier's
    descriptor, and whether it is new: a signature by this key that fits the files is not made twice. certificates: as
    in :func:`~.bundles.sign_model`; one without them, or with another of the key, is none then.

    Raises InputError for files in archives or without a sha256, what a key service raises, the RegistryError family.
    """
    made = make_signature(opened, signer, certificates, name=opened.place.repository.rpartition("/")[2])
    if isinstance(made, WeightSignature):
        return Descriptor(media_type=opened.descriptor.media_type, digest=made.digest, size=0), False
    return attach_bundle(opened.place, subject=opened.descriptor, content=made, predicate_type=OMS_TYPE)


def make_signature(
    opened: OpenedWeights, signer: Signer, certificates: Sequence[bytes] = (), *, name: str
) -> WeightSignature | bytes:
    """A signature of weights by the digests that their list has, or the one that is there and says the same. name: of
    the model. Raises as :func:`sign_attached`."""
    opened.need_raw()
    odd = [file.path for file in opened.weights.files if file.digest.algorithm != "sha256"]
    if odd:
        raise InputError(f"{odd[0]} is named by another digest than sha256", do="Push the weights again")
    known = read_signatures(opened.place, opened.descriptor.digest, opened.weights, verifier_of(signer))
    for each in known.believed:
        if not certificates or each.certificates == tuple(certificates):
            return each
    digests = {file.path: file.digest.hex for file in opened.weights.files}
    return sign_model(digests, signer, name=name, certificates=certificates)


def read_signatures(place: Place, digest: Digest, weights: WeightSet, verifier: Verifier) -> WeightSignatures:
    """The signatures of weights: ``digest`` is their manifest, ``weights`` its files. Other bundles are passed over.

    Raises the RegistryError family where the registry does not answer, ClosureIncomplete for more referrers than are
    read.
    """
    believed: list[WeightSignature] = []
    rejected: list[Rejected] = []
    for referrer, raw in bundles_of(place, digest):
        where = str(referrer)
        if isinstance(raw, Rejected):
            rejected.append(raw)
            continue
        try:
            found = believe(raw, verifier, where=where)
            if problems := against_set(found.model, weights):
                more = f", and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
                raise SignatureInvalid(f"it is about other files: {'; '.join(problems[:SHOWN])}{more}")
            unsigned = tuple(file.path for file in weights.files if file.path not in found.model.files)
            believed.append(WeightSignature(referrer, found.key_id, found.model, unsigned, found.certificates))
        except SignatureInvalid as error:
            rejected.append(Rejected(where, error.what))
    return WeightSignatures(tuple(believed), tuple(rejected))


def against_set(model: SignedModel, weights: WeightSet) -> list[str]:
    """What is otherwise in a set than it was signed, one sentence each. A signature by ranges, or by another hash than
    the manifest's, fits none: only a folder that was pulled can be held against it."""
    if model.sharded or model.hash_type != "sha256":
        how = "by ranges of files" if model.sharded else f"by {model.hash_type}"
        return [f"it signs {how}, and a registry names whole files by sha256; verify a folder that was pulled"]
    there = {file.path: file for file in weights.files}
    problems = [f"{path} is missing" for path in sorted(model.files.keys() - there.keys())]
    for path, file in sorted(there.items()):
        if path not in model.files:
            problems += [] if model.leaves_out(path) else [f"{path} is not signed"]
        elif not file.is_raw:
            problems.append(f"{path} lies in an archive")
        elif str(file.digest) != f"sha256:{model.files[path][0].digest}":
            problems.append(f"{path} has other content")
    return problems


def carry_signatures(source: OpenedWeights, place: Place, descriptor: Descriptor) -> int:
    """Attach the signatures that weights have to another manifest with the same files, and count the new ones. Believed
    is none here: who asks later decides. Raises as :func:`read_signatures`."""
    carried = 0
    for raw in fitting_signatures(source):
        _, new = attach_bundle(place, subject=descriptor, content=raw, predicate_type=OMS_TYPE)
        carried += new
    return carried


def fitting_signatures(source: OpenedWeights) -> Iterator[bytes]:
    """The signatures that weights have and that are about their files; who made them is not asked. Raises as
    :func:`read_signatures`."""
    for _, raw in bundles_of(source.place, source.descriptor.digest):
        if not isinstance(raw, Rejected) and fits(raw, source.weights):
            yield raw


def fits(raw: bytes, weights: WeightSet) -> bool:
    """Whether this is a signature of a model, about these files; who made it is not asked."""
    try:
        return not against_set(read_oms(read_bundle(raw, chains=True).envelope.payload), weights)
    except SignatureInvalid:
        return False


def signature_bytes(place: Place, signature: WeightSignature) -> bytes:
    """The bundle itself, to lie beside files. Raises SignatureInvalid where it is gone, the RegistryError family."""
    content = place.registry.get_manifest(place.repository, signature.digest).content()
    raw = read_layer(place, content.layers[0], limit=MAX_BUNDLE_BYTES) if hasattr(content, "layers") else None
    if not isinstance(raw, bytes):
        raise SignatureInvalid("the signature cannot be read any more", where=str(signature.digest))
    return raw


def bundles_of(
    place: Place, digest: Digest, predicate_type: str = OMS_TYPE
) -> Iterator[tuple[Digest, bytes | Rejected]]:
    """What may be a signature of a model, or another statement about weights, by the digest of its carrier; a bundle
    that says it is of another type is none, one that does not say may be a signature, and one that cannot be read may
    have been one."""
    for referrer in open_referrers(place, digest):
        if isinstance(referrer, Rejected):
            continue
        if referrer.carries(SIGSTORE_BUNDLE) and _may_be(referrer, predicate_type):
            layers = referrer.manifest.layers
            raw = read_layer(place, layers[0], limit=MAX_BUNDLE_BYTES)
            yield referrer.descriptor.digest, raw


def _may_be(referrer: Referrer, predicate_type: str) -> bool:
    said = (referrer.manifest.annotations or {}).get(PREDICATE_ANNOTATION, OMS_TYPE)
    return len(referrer.manifest.layers) == 1 and said == predicate_type


__all__ = [
    "WeightSignature",
    "WeightSignatures",
    "against_set",
    "bundles_of",
    "carry_signatures",
    "fits",
    "fitting_signatures",
    "make_signature",
    "read_signatures",
    "sign_attached",
    "signature_bytes",
]
