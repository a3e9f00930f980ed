"""The weights that are attached to a release, and the gate's rule about them: one answer for image and weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from registry_pipelines.errors import ContentError, InputError, NotFound
from registry_pipelines.evidence.model import Rejected, Verifier
from registry_pipelines.evidence.predicates import OMS_TYPE
from registry_pipelines.evidence.referrers import Referrer, open_referrers
from registry_pipelines.oci.digest import Digest
from registry_pipelines.progress import count_text
from registry_pipelines.promote.documents import DeniedWeights, EvidenceUsed, Step, WeightRules
from registry_pipelines.promote.findings import Outcome
from registry_pipelines.registry.protocol import Place
from registry_pipelines.threads import Pool
from registry_pipelines.weights.formats import HEAD_BYTES, kind_of
from registry_pipelines.weights.model import WeightFile, is_weights
from registry_pipelines.weights.oms.attached import WeightSignature, read_signatures
from registry_pipelines.weights.oms.images import unvouched
from registry_pipelines.weights.opening import OpenedWeights, open_weights

WEIGHTS_FORM = "weights:manifest"
"""How judged weights stand among a verdict's evidence, in the place of a predicate type; nobody's key is named."""

SHOWN = 5
"""Files that a reason names; it counts the others."""
HEADS_AT_ONCE = 8


@dataclass(frozen=True)
class JudgedWeights:
    """One set of weights that refers to a release, or to an image of it. digest: of its manifest. problem: why it
    cannot be judged; empty when it can."""

    digest: Digest
    problem: str = ""
    signatures: tuple[WeightSignature, ...] = ()
    unsigned: str = ""
    """Why no signature counts; empty when one does, or none was asked for."""
    denied: tuple[tuple[str, str], ...] = ()
    """Files of formats that the policy denies: path, and what it is."""


def attached_digests(place: Place, subjects: Iterable[Digest]) -> frozenset[Digest]:
    """The manifests of all weights that refer to a release, or to an image of it, and of what may be weights and cannot
    be read. Raises the RegistryError family."""
    return frozenset(_attached(place, subjects))


def read_weights(
    place: Place, subjects: Iterable[Digest], verifier: Verifier, rules: WeightRules
) -> tuple[JudgedWeights, ...]:
    """What is attached to a release, or to an image of it, by digest: who signed it, and, where the policy denies
    formats, what its files are by their first bytes. What is attached and cannot be read may be weights, so it is among
    them, with its problem. Raises the RegistryError family where the registry does not answer."""
    return tuple(
        _judged(place, digest, verifier, rules) if not problem else JudgedWeights(digest, problem=problem)
        for digest, problem in sorted(_attached(place, subjects).items())
    )


def _attached(place: Place, subjects: Iterable[Digest]) -> dict[Digest, str]:
    """Digests of weights, and of what cannot be read, with why not; empty for weights."""
    found: dict[Digest, str] = {}
    for each in (each for subject in dict.fromkeys(subjects) for each in open_referrers(place, subject)):
        if isinstance(each, Referrer) and is_weights(each.manifest):
            found[each.descriptor.digest] = ""
        elif isinstance(each, Rejected) and each.damaged:
            found[Digest(each.where)] = f"it is attached and cannot be read, so it may be weights: {each.reason}"
    return found


def _judged(place: Place, digest: Digest, verifier: Verifier, rules: WeightRules) -> JudgedWeights:
    try:
        opened = open_weights(place, str(digest))
        denied = _denied(opened, rules.deny) if rules.deny else ()
    except (ContentError, InputError, NotFound) as error:
        return JudgedWeights(digest, problem=error.what)
    # Of a plain image nobody knows what its layers have but who read them.
    hidden = unvouched(place, digest, opened.image, verifier) if opened.image and (rules.signed or rules.deny) else ""
    if not rules.signed:
        return JudgedWeights(digest, problem=hidden, denied=denied)
    found = read_signatures(place, digest, opened.weights, verifier)
    return JudgedWeights(digest, signatures=found.of_all, unsigned=found.problem_of_all or hidden, denied=denied)


def _denied(opened: OpenedWeights, deny: Sequence[DeniedWeights]) -> tuple[tuple[str, str], ...]:
    with Pool(HEADS_AT_ONCE, "head") as pool:
        found = pool.map(partial(_denied_as, opened, deny), opened.weights.files)
        return tuple((file.path, what) for file, what in zip(opened.weights.files, found, strict=True) if what)


def _denied_as(opened: OpenedWeights, deny: Sequence[DeniedWeights], file: WeightFile) -> str:
    """What is against a file; empty for nothing."""
    if not file.is_raw:
        return "an archive, whose content is not known"
    what = kind_of(file.path, _head(opened, file), file.size)
    if what.pickle and "pickle" in deny:
        return "pickle" if what.name == "pickle" else f"pickle ({what.name})"
    if what.name == "unknown" and "unknown" in deny:
        return "unknown"
    return "code" if "code" in (what.kind, file.kind) and "code" in deny else ""


def _head(opened: OpenedWeights, file: WeightFile) -> bytes:
    wanted, read = min(HEAD_BYTES, file.size), bytearray()
    if not wanted:
        return b""
    buffer, place = memoryview(bytearray(wanted)), opened.content
    with place.registry.open_blob(place.repository, file.digest, start=0, stop=wanted) as reader:
        while len(read) < wanted and (count := reader.readinto(buffer[: wanted - len(read)])):
            read += buffer[:count]
    if len(read) < wanted:
        raise ContentError(f"{file.path} has {len(read)} bytes where {file.size} are said", where=str(opened))
    return bytes(read)


def weights_within(attached: Iterable[JudgedWeights], rules: WeightRules) -> Outcome:
    """Every set of weights keeps the rules; one is there where the policy wants one."""
    outcome, some = Outcome(), False
    for each in attached:
        some = True
        if each.problem:
            outcome.add(_against(each, f"cannot be judged: {each.problem}", "other weights in place of these"))
        if each.unsigned:
            outcome.add(_against(each, each.unsigned, "sign"))
        if each.denied:
            files = _some([f"{path} is {what}" for path, what in each.denied])
            outcome.add(_against(each, f"denied formats: {files}", "weights without those files"))
    if rules.required and not some:
        outcome.add(Outcome(["weights: none are attached to this release"], [Step(kind="weights", about=("attach",))]))
    return outcome


def _against(weights: JudgedWeights, why: str, about: str) -> Outcome:
    return Outcome([f"weights: {weights.digest}: {why}"], [Step(kind="weights", about=(about,))])


def _some(texts: Sequence[str]) -> str:
    more = f", and {count_text(len(texts) - SHOWN, 'more', 'more')}" if len(texts) > SHOWN else ""
    return ", ".join(texts[:SHOWN]) + more


def weights_used(attached: Iterable[JudgedWeights]) -> set[tuple[str, Digest, str]]:
    """What a verdict rests on: kind, digest and key of each set, and of the signatures that count."""
    used = set()
    for each in attached:
        used.add((WEIGHTS_FORM, each.digest, ""))
        used |= {(OMS_TYPE, signature.digest, signature.key_id) for signature in each.signatures}
    return used


def attached_since(evidence: Iterable[EvidenceUsed], attached: Iterable[Digest]) -> Outcome:
    """What speaks against weights of now that a verdict has not seen. evidence: that the verdict rests on."""
    seen = {used.digest for used in evidence if used.predicate_type == WEIGHTS_FORM}
    new = sorted(set(attached) - seen)
    reasons = [f"weights: {digest} was attached after the verdict" for digest in new]
    gone = sorted(seen - set(attached))
    reasons += [f"weights: {digest}, on which the verdict rests, is attached no more" for digest in gone]
    return Outcome(reasons, [Step(kind="judge")] if reasons else [])


__all__ = [
    "WEIGHTS_FORM",
    "JudgedWeights",
    "attached_digests",
    "attached_since",
    "read_weights",
    "weights_used",
    "weights_within",
]
