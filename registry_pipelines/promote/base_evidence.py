"""Which base the images of a release stand on, as its registry has them, and the rule of the gate about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from registry_pipelines.errors import ContentError, NotFound
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.promote.bases import KnownBase, Standing, recognise
from registry_pipelines.promote.documents import Policy, Step
from registry_pipelines.promote.findings import Outcome
from registry_pipelines.promote.origins import Origin
from registry_pipelines.registry.platforms import Entry, image_config
from registry_pipelines.registry.protocol import Place


def read_standing_on(
    place: Place, images: Iterable[Entry], origins: Sequence[Origin], known: Sequence[KnownBase]
) -> Standing:
    """Which base each image of a release stands on. origins: what it was converted from, as evidence has it. Raises
    RegistryError when the registry does not answer."""
    return {entry.digest: _base_of(place, entry, origins, known) for entry in images}


def _base_of(place: Place, entry: Entry, origins: Sequence[Origin], known: Sequence[KnownBase]) -> KnownBase | None:
    try:
        found = recognise(entry.config.diff_ids if entry.config else (), known)
    except ContentError:
        return None
    for origin in origins if found is None else ():
        pair = next((each for each in origin.record.platforms if each.derived == entry.digest), None)
        if pair is not None and entry.digest in origin.covers:
            found = found or recognise(_chain_of(place, pair.origin), known)
    return found


def _chain_of(place: Place, manifest: Digest) -> tuple[Digest, ...]:
    """Its diffIDs; none where it cannot be read."""
    try:
        content = place.registry.get_manifest(place.repository, manifest).content()
        return image_config(place, content).diff_ids if isinstance(content, Manifest) else ()
    except (ContentError, NotFound):
        return ()


def stands_on_approved(images: Iterable[Entry], standing: Standing, policy: Policy, now: datetime) -> Outcome:
    """Every image stands on a base that the policy approves, and that still counts. What it stands on is noted, also
    that a newer one is there: a verdict made tomorrow from the same evidence says the same."""
    outcome = Outcome()
    approved = policy.bases
    for entry in images:
        base = standing.get(entry.digest)
        what = f"approved-base: {entry.platform} ({entry.digest})"
        if base is None:
            reason = f"{what} stands on none that is known, by its lowest layers"
        elif approved and base.name not in approved:
            reason = f"{what} stands on {base.label}, and policy {policy.name} takes {', '.join(approved)}"
        elif not base.counts(now):
            reason = (
                f"{what} stands on {base.label}, which was replaced on {base.replaced} and counted until {base.until}"
            )
        else:
            newer = f", which was replaced on {base.replaced}" if base.replaced else ""
            outcome.notes.append(f"{what} stands on {base.label}{newer}")
            continue
        outcome.reasons.append(reason)
        about = f"build {entry.platform} on an approved base: {', '.join(approved) or 'any of `bases`'}"
        outcome.steps.append(Step(kind="image", about=(about,)))
    return outcome
