"""Look at an image as a node's pull would: manifest, platform, layers, and the store that the layers come from.

One HEAD, one GET of each manifest and config, one GET of a byte of the first layer: the store of the layers is another
host at most registries, and a node that has the manifest may still not reach it.
"""

from __future__ import annotations

import msgspec

from registry_pipelines.doctor.causes import explain
from registry_pipelines.doctor.clues import read_message
from registry_pipelines.doctor.model import Answer, Cause, Patient
from registry_pipelines.doctor.nodes import OLDEST_CONTAINERD_ZSTD, Node, room_answer
from registry_pipelines.doctor.refusals import cause_of
from registry_pipelines.errors import NotFound, RegistryPipelinesError
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.progress import count_text, size_text
from registry_pipelines.registry.image_warnings import warnings_of
from registry_pipelines.registry.platforms import Entry, images_of, read_entries
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.warning_kinds import ImageWarning, WarningId

STOPS: dict[WarningId, Cause] = {
    "sha512-layer": "sha512",
    "sha512-manifest": "sha512",
    "config-type": "manifest-kind",
    "config-unreadable": "content-damaged",
    "diff-ids": "content-damaged",
    "mixed-types": "manifest-kind",
    "odd-entry-type": "manifest-kind",
    "odd-layer-type": "manifest-kind",
    "platform-disagrees": "wrong-platform",
}
"""Warnings about an image that end a start on some runtime; what else `inspect` warns of keeps nothing away."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was asked, and what came."""

    asked: str
    answered: str
    ok: bool

    def row(self) -> dict[str, str | bool]:
        """For tables and JSON."""
        return {"asked": self.asked, "answered": self.answered, "ok": self.ok}


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """What a look at an image gave. error: what ended it; the exit code is its."""

    steps: tuple[Step, ...]
    answers: tuple[Answer, ...]
    error: RegistryPipelinesError | None = None


def look_at(place: Place, selector: str, patient: Patient, node: Node) -> Looked:
    """Look at an image. selector: tag or digest. patient: what is known beforehand; its platform, else the node's, is
    the one wanted. Raises nothing of what a registry does."""
    steps: list[Step] = []
    answers: list[Answer] = []
    asked = f"{selector} in {place}"
    try:
        head = place.registry.resolve(place.repository, selector)
        steps.append(Step(asked=f"HEAD {asked}", answered=f"{head.digest} ({head.media_type})", ok=True))
        asked = f"manifests and configs of {head.digest.short}"
        entries = read_entries(place, place.registry.get_manifest(place.repository, head.digest))
        images = images_of(entries)
        steps.append(Step(asked=f"GET {asked}", answered=_held(images), ok=bool(images)))
        answers += _about_kind(entries, images, patient)
        wanted = patient.platform or node.platform
        serving = _serving(images, wanted)
        answers += _about_platform(images, serving, wanted, patient)
        answers += _about_content(place, entries, serving, patient, node)
        if serving:
            asked = f"one byte of a layer of {serving[0].digest.short}"
            steps.append(_first_byte(place, serving[0], asked))
            answers += filter(None, [room_answer(node, sum(each.size for each in serving[0].manifest.layers))])
    except RegistryPipelinesError as error:
        steps.append(Step(asked=asked, answered=error.what, ok=False))
        known = msgspec.structs.replace(read_message(f"{error.what} {error.do}", patient), kubelet=patient.kubelet)
        answers.append(explain(cause_of(error), known, evidence=(str(error),)))
        return Looked(steps=tuple(steps), answers=tuple(answers), error=error)
    return Looked(steps=tuple(steps), answers=tuple(answers))


def _held(images: tuple[Entry, ...]) -> str:
    platforms = ", ".join(dict.fromkeys(str(each.platform) for each in images))
    return f"{count_text(len(images), 'image')} for {platforms}" if images else "no image among them"


def _about_kind(entries: tuple[Entry, ...], images: tuple[Entry, ...], patient: Patient) -> list[Answer]:
    if images:
        return []
    kinds = ", ".join(dict.fromkeys(each.kind for each in entries))
    return [explain("manifest-kind", patient, evidence=(f"it holds: {kinds}",))]


def _serving(images: tuple[Entry, ...], wanted: str) -> list[Entry]:
    if not wanted:
        return list(images[:1])
    try:
        platform = Platform.parse(wanted)
    except RegistryPipelinesError:
        return list(images[:1])
    return [each for each in images if each.serves(platform)]


def _about_platform(images: tuple[Entry, ...], serving: list[Entry], wanted: str, patient: Patient) -> list[Answer]:
    if serving or not images:
        return []
    there = ", ".join(dict.fromkeys(str(each.platform) for each in images))
    known = msgspec.structs.replace(patient, platform=wanted)
    cause: Cause = "platform-missing" if images[0].listed else "wrong-platform"
    return [explain(cause, known, evidence=(f"it has {there}",))]


def _about_content(
    place: Place, entries: tuple[Entry, ...], serving: list[Entry], patient: Patient, node: Node
) -> list[Answer]:
    """What runtimes do not take in the image that the node would start."""
    mine = {each.digest for each in serving}
    runtime, version = node.runtime_version
    answers = [
        _warned(each, STOPS[each.id], patient)
        for each in warnings_of(place, entries)
        if each.id in STOPS and (each.about in mine or each.about == entries[0].digest)
    ]
    zstd = any(layer.media_type.endswith("zstd") for each in serving for layer in each.manifest.layers)
    if zstd and runtime == "containerd" and version < OLDEST_CONTAINERD_ZSTD:
        answers.append(explain("zstd", patient, evidence=(f"the node runs {node.runtime}",)))
    return answers


def _warned(warning: ImageWarning, cause: Cause, patient: Patient) -> Answer:
    kind = warning.kind
    told = explain(cause, patient)
    evidence = (f"{warning.about.short}{f': {warning.detail}' if warning.detail else ''}", kind.source)
    return msgspec.structs.replace(told, what=kind.text, do=kind.do, evidence=evidence, sure=False)


def _first_byte(place: Place, image: Entry, asked: str) -> Step:
    layer = next((each for each in image.manifest.layers if each.size and not each.urls), None)
    if layer is None:
        return Step(asked=f"GET {asked}", answered="it has no layer of its own", ok=True)
    buffer = bytearray(1)
    with place.registry.open_blob(place.repository, layer.digest, start=0, stop=1) as reader:
        reader.readinto(memoryview(buffer))
    total = sum(each.size for each in image.manifest.layers)
    answered = f"it comes; {count_text(len(image.manifest.layers), 'layer')}, {size_text(total)} in all"
    return Step(asked=f"GET {asked}", answered=answered, ok=True)


def is_missing(error: RegistryPipelinesError | None) -> bool:
    """Whether the look ended because it is not there."""
    return isinstance(error, NotFound)
