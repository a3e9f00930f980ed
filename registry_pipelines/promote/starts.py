"""How a release starts, which a policy may ask before a channel moves: a hot pack of each platform, how large it is,
and how long a start took by the newest measurement. Of what a believed key signed alone.

No verdict says any of this. A recording runs the image, and none is run before its verdict is allow; so a release that
lacks only its pack, or a measurement, is held until that is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry_pipelines.errors import ContentError, NotFound
from registry_pipelines.evidence.model import Verifier
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.progress import size_text
from registry_pipelines.promote.documents import Policy, Step
from registry_pipelines.promote.findings import Outcome
from registry_pipelines.registry.protocol import Place

if TYPE_CHECKING:  # few policies ask, and packs bring a compressor along
    from registry_pipelines.stream.hot.packs import FoundPack
    from registry_pipelines.stream.start_report import StartReport

MAX_BLOBS_NAMED = 3


@dataclass(frozen=True)
class ImageStart:
    """What is signed about the start of one platform's image."""

    pack: FoundPack | None = None
    """The newest that is whole."""
    report: StartReport | None = None
    """The newest measurement."""
    refused: tuple[str, ...] = ()
    """What is there and not believed, one sentence each."""

    @property
    def pack_bytes(self) -> int:
        """What a node fetches of the pack."""
        return self.pack.head.size + self.pack.note.stored_bytes if self.pack else 0


Starts = Mapping[str, ImageStart]
"""By platform manifest."""


def read_starts(place: Place, images: Iterable[str], policy: Policy, verifier: Verifier) -> dict[str, ImageStart]:
    """What a policy asks of the starts of images, which are platform manifests; nothing is read for one that asks
    nothing. Raises RegistryError."""
    if not policy.asks_about_start:
        return {}
    return {image: read_start(place, Digest.parse(image), verifier) for image in images}


def read_start(place: Place, image: Digest, verifier: Verifier) -> ImageStart:
    """What is signed about the start of one platform's image; of several packs the newest that is whole. Raises
    RegistryError."""
    from registry_pipelines.stream.hot.packs import find_packs
    from registry_pipelines.stream.start_report import read_reports

    packs, (reports, unbelieved) = find_packs(place, image, verifier), read_reports(place, image, verifier)
    refused = [str(each) for each in (*packs.not_used, *unbelieved)]
    whole: FoundPack | None = None
    for each in packs.believed:
        gone = _gone(place, each)
        if not gone:
            whole = each
            break
        refused.append(f"{each.descriptor.digest}: {gone}")
    return ImageStart(
        pack=whole,
        report=reports[0].report if reports else None,
        refused=tuple(dict.fromkeys(refused)),
    )


def _gone(place: Place, pack: FoundPack) -> str:
    """What of a pack is not in the repository; empty when all is. A request for each of its blobs."""
    try:
        content = place.registry.get_manifest(place.repository, pack.descriptor.digest).content()
    except (ContentError, NotFound) as error:
        return error.what
    blobs = content.layers if isinstance(content, Manifest) else ()
    gone = [each.digest for each in blobs if place.registry.blob_size(place.repository, each.digest) != each.size]
    return f"{', '.join(gone[:MAX_BLOBS_NAMED])} of it is not here" if gone else ""


def starts_within(platforms: Mapping[str, str], starts: Starts, policy: Policy) -> Outcome:
    """What speaks against moving a channel to a release whose verdict is allow. platforms: manifest to its name. What
    is too large or too slow denies; without that ``held`` says what is still to be made."""
    against, missing = Outcome(), Outcome()
    for image, platform in platforms.items():
        start, about = starts.get(image, ImageStart()), f"{platform} ({image})"
        against.add(_over_budget(start, about, policy))
        missing.add(_missing(start, platform, about, policy))
    if against.reasons:
        against.add(missing)
        return against
    kinds = {step.kind for step in missing.steps}
    missing.held = "recording" if "record" in kinds else "measurement" if kinds else ""
    return missing


def _over_budget(start: ImageStart, about: str, policy: Policy) -> Outcome:
    outcome, most, longest = Outcome(), policy.max_pack_size, policy.max_start_time
    if most is not None and start.pack_bytes > most:
        reason = f"hot pack: that of {about} has {size_text(start.pack_bytes)}, more than {size_text(most)}"
        advice = "record less of the start (`stream.record.until`), or raise `max_pack_size`"
        outcome.add(Outcome([reason], [Step(kind="start", about=(advice,))]))
    if longest is not None and start.report and start.report.result_s > longest.total_seconds():
        took = f"{start.report.result_s:.1f} s until {start.report.until}, at {start.report.time}"
        reason = f"start time: {about} took {took}, more than {longest}"
        advice = "have it read less, or raise `max_start_time`"
        outcome.add(Outcome([reason], [Step(kind="start", about=(advice,))]))
    return outcome


def _missing(start: ImageStart, platform: str, about: str, policy: Policy) -> Outcome:
    outcome = Outcome()
    if "hot-pack" in policy.required and start.pack is None:
        told = f"; not believed: {start.refused[0]}" if start.refused else ""
        reason = f"hot pack: {about} has none that a trusted key signed{told}"
        outcome.add(Outcome([reason], [Step(kind="record", about=(platform,))]))
    if policy.max_start_time is not None and start.report is None:
        reason = f"start time: nobody measured a start of {about}"
        outcome.add(Outcome([reason], [Step(kind="measure", about=(platform,))]))
    return outcome
