"""Approved bases over a configuration: what their tags name, which images stand on which one, what is to be built
again, and the bytes that one base for all would save.

What was ever seen under a base's tag is remembered in the state folder (``bases/``): an image that was built on last
month's base is still recognised. Another machine, or one whose state was lost, knows the current one and what
``digests`` names, and does not recognise the others: that denies where a policy asks, and never lets pass.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING

import msgspec

from registry_pipelines.chain.next_steps import typed
from registry_pipelines.chain.releases import built_tag, releases_of
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.config import Image
from registry_pipelines.errors import InputError, NotFound, RegistryPipelinesError
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import decode_json, encode_json
from registry_pipelines.oci.tags import order_key
from registry_pipelines.oci.times import read_time
from registry_pipelines.progress import count_text
from registry_pipelines.promote.base_evidence import read_standing_on
from registry_pipelines.promote.bases import Base, KnownBase
from registry_pipelines.promote.documents import TIME_FORMAT
from registry_pipelines.promote.origins import Origin, read_origins
from registry_pipelines.registry.platforms import Entry, read_images
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.release import Release
from registry_pipelines.settings import unknown
from registry_pipelines.shared.documents import Documents, change
from registry_pipelines.threads import Pool

if TYPE_CHECKING:
    from registry_pipelines.evidence.keys import KeySet

MAX_BYTES = 64 * 1024 * 1024
"""Of what is remembered of a base; an image takes some KB."""
MAX_REMEMBERED = 1000
"""Images of one base that are remembered, the newest: one that is made every day, for three years."""

LOOKUP_THREADS = 8


@dataclass(frozen=True)
class OnBase:
    """One platform's image of a release that somebody may run, and what it stands on."""

    release: Release
    entry: Entry
    base: KnownBase | None
    channels: tuple[str, ...]
    """Channel tags that name the release."""

    @property
    def state(self) -> str:
        """``current``, ``older``: a newer one is under the base's tag; ``unknown``: it stands on none that is known."""
        if self.base is None:
            return "unknown"
        return "older" if self.base.replaced else "current"


def known_bases(session: Session) -> tuple[KnownBase, ...]:
    """Every base of the configuration as it is known now. Raises RegistryError for one that cannot be read and was
    never read before, LocalError."""
    known: list[KnownBase] = []
    for base in session.config.bases.values():
        try:
            found, _ = _refreshed(session, base)
        except RegistryPipelinesError:
            found = _remembered(_documents(session), base)
            if not found:
                raise
        known += (_until(base, each) for each in found)
    return tuple(known)


def bases(session: Session, names: Collection[str] = ()) -> StageResult:
    """Every base (all unless named) with what its tag names now, the images that stand on it, what is to be built again
    and what one base would save. Only the state folder is written. Raises InputError for an unknown name."""
    started, settings = time.monotonic(), session.config.bases
    chosen = {name: _base(session, name) for name in names} or settings
    known: list[KnownBase] = []
    notes: list[str] = []
    changed: dict[str, bool] = {}
    for name, base in chosen.items():
        try:
            found, changed[name] = _refreshed(session, base)
        except RegistryPipelinesError as error:
            found = _remembered(_documents(session), base)
            notes.append(f"base {name} cannot be read, what was seen before counts: {error}")
        known += (_until(base, each) for each in found)
    standing, silent = images_on(session, known)
    notes += silent
    if names:
        standing = [each for each in standing if each.base]
    stale = [each for each in standing if each.state == "older"]
    savings, saved, blessed = saved_by_one(standing, known)
    counts = {state: sum(each.state == state for each in standing) for state in ("current", "older", "unknown")}
    current = [each for each in known if not each.replaced]
    return StageResult(
        stage="bases",
        subject=", ".join(chosen) or "no base is configured",
        action=f"{count_text(len(stale), 'image')} to be built again" if stale else "nothing to be built again",
        digest=current[0].digest if len(chosen) == 1 and current else "",
        changed=any(changed.values()),
        seconds=time.monotonic() - started,
        facts={
            "images": len(standing),
            **{f"images_{state}": count for state, count in counts.items()},
            "base_bytes": sum(
                {d: s for each in standing if each.base for d, s in _blobs_of(each.base).items()}.values()
            ),
            "bytes_saved_by_one": saved,
            **({"blessed": blessed.label} if blessed else {}),
        },
        rows=[_row(each) for each in standing],
        tables={"bases": _listed(known), "savings": savings},
        next_steps=_rebuilds(session, stale, known),
        notes=notes,
    )


def current_digest(session: Session, name: str) -> Digest | None:
    """What the tag of a base names now; None where there is none. For who looks often: one request. Raises InputError,
    RegistryError."""
    base = _base(session, name)
    return digest_at(_place(session, base), base.tag)


def to_build(session: Session, name: str) -> list[str]:
    """Images that stand on an older one of a base, and whose configured version is not there yet: a build makes it.
    Raises InputError."""
    known, _ = _refreshed(session, _base(session, name))
    standing, _ = images_on(session, known)
    stale = dict.fromkeys(each.release.image for each in standing if each.state == "older")
    return [image for image in stale if _is_buildable(session, session.image(image))]


@dataclass(frozen=True)
class _Ground:
    """Lowest layers that some images share."""

    label: str
    platform: str
    images: int
    blobs: dict[Digest, int]
    """Layers with their bytes."""


def saved_by_one(
    standing: Sequence[OnBase], known: Sequence[KnownBase]
) -> tuple[list[dict[str, Scalar]], int, KnownBase | None]:
    """What registries would hold less if every image stood on one base: a row for each ground that images stand on, the
    bytes saved, and an image of that base: the current one of the base under most images.

    Layers that several grounds share count once, before and after. Images on no known base that share their lowest
    layers with others stand on a ground that nobody approved: it counts. Of all others nothing is guessed.
    """
    grounds = [*_known_grounds(standing), *_shared_grounds(standing)]
    users = {base.name: 0 for base in known}
    for each in standing:
        if each.base:
            users[each.base.name] += 1
    current = [base for base in known if not base.replaced]
    chosen = max(current, key=lambda base: (users[base.name], base.seen, base.digest), default=None)
    blessed = {base.platform: base for base in current if chosen and base.digest == chosen.digest}
    replaceable = [ground for ground in grounds if ground.platform in blessed]
    before = {digest: size for ground in replaceable for digest, size in ground.blobs.items()}
    wanted = dict.fromkeys(ground.platform for ground in replaceable)
    after = {digest: size for platform in wanted for digest, size in _blobs_of(blessed[platform]).items()}
    rows: list[dict[str, Scalar]] = []
    for ground in sorted(grounds, key=lambda ground: (-ground.images, ground.label, ground.platform)):
        kept = {digest for other in grounds if other is not ground for digest in other.blobs} | after.keys()
        own = sum(size for digest, size in ground.blobs.items() if digest not in kept)
        rows.append(
            {
                "base": ground.label,
                "platform": ground.platform,
                "images": ground.images,
                "bytes": sum(ground.blobs.values()),
                "freed_bytes": own if ground.platform in blessed else 0,
            }
        )
    return rows, max(0, sum(before.values()) - sum(after.values())), chosen


def _known_grounds(standing: Iterable[OnBase]) -> Iterator[_Ground]:
    on: dict[KnownBase, int] = {}
    for each in standing:
        if each.base is not None:
            on[each.base] = on.get(each.base, 0) + 1
    for base, count in on.items():
        yield _Ground(base.label, base.platform, count, _blobs_of(base))


def _shared_grounds(standing: Iterable[OnBase]) -> Iterator[_Ground]:
    """Of images on no known base: groups with the same lowest layer, and what all of a group begin with."""
    groups: dict[tuple[str, Digest], list[OnBase]] = {}
    for each in standing:
        if each.base is None and each.entry.config and each.entry.config.diff_ids:
            groups.setdefault((str(each.entry.platform), each.entry.config.diff_ids[0]), []).append(each)
    for (platform, lowest), group in groups.items():
        names = sorted({each.release.image for each in group})
        if len(names) < 2:
            continue
        chains = [each.entry.config.diff_ids for each in group if each.entry.config]
        length = next(
            (place for place, ids in enumerate(zip(*chains, strict=False)) if len(set(ids)) > 1), min(map(len, chains))
        )
        layers = group[0].entry.manifest.layers[:length]
        blobs = {layer.digest: layer.size for layer in layers}
        yield _Ground(f"not approved: {lowest.short} of {', '.join(names)}", platform, len(group), blobs)


def _blobs_of(base: KnownBase) -> dict[Digest, int]:
    return dict(zip(base.layers, base.sizes, strict=True))


def _base(session: Session, name: str) -> Base:
    base = session.config.bases.get(name)
    if base is None:
        raise InputError(unknown(name, session.config.bases, "base"), do="Name a base of the configuration")
    return base


def _place(session: Session, base: Base) -> Place:
    return Place(session.places.registry(base.registry), base.repository)


def _documents(session: Session) -> Documents:
    return session.documents.under("bases")


def _name(base: Base) -> str:
    return f"{base.name}.json"


def _refreshed(session: Session, base: Base) -> tuple[list[KnownBase], bool]:
    """What is known of a base after a look at its registry, and whether that was news. Raises RegistryError, NotFound
    (no such tag, and nothing is named by digest), ContentError, LocalError."""
    place, documents = _place(session, base), _documents(session)
    named = digest_at(place, base.tag)
    if named is None and not base.digests:
        raise NotFound(
            f"the base {base.name} has no tag {base.tag}",
            where=str(place),
            do=f"Push it, or correct `bases.{base.name}` in the configuration",
        )
    now = session.now().strftime(TIME_FORMAT)
    pinned = [Digest.parse(each) for each in base.digests]
    known: list[KnownBase] = []
    changed = False

    def renewed(raw: bytes | None) -> bytes | None:
        nonlocal known, changed
        before = _decoded(raw, documents, base)
        there = {each.digest for each in before}
        wanted = dict.fromkeys([*([named] if named else []), *pinned])
        fresh = [
            each
            for digest in wanted
            if digest not in there
            for each in _read(place, base, digest, digest == named, now)
        ]
        known = [_dated(each, named, pinned, now) for each in (*before, *fresh)]
        known = [each for each in known if each.tagged or each.digest in pinned][-MAX_REMEMBERED:]
        changed = known != before
        return encode_json(known) if changed else raw

    change(documents, _name(base), renewed, most=MAX_BYTES)
    return known, changed


def _read(place: Place, base: Base, digest: Digest, tagged: bool, now: str) -> list[KnownBase]:
    top = place.registry.get_manifest(place.repository, digest)
    return [
        KnownBase(
            name=base.name,
            digest=digest,
            manifest=entry.digest,
            platform=str(entry.platform),
            chain=entry.config.diff_ids,
            layers=tuple(layer.digest for layer in entry.manifest.layers),
            sizes=tuple(layer.size for layer in entry.manifest.layers),
            seen=now,
            tagged=tagged,
        )
        for entry in read_images(place, top)
        if entry.config and len(entry.config.diff_ids) == len(entry.manifest.layers) > 0
    ]


def _dated(base: KnownBase, named: Digest | None, pinned: Sequence[Digest], now: str) -> KnownBase:
    """With what the tag names now: whatever it names, and whatever is named by digest, is current."""
    tagged = base.tagged or base.digest == named
    current = base.digest == named or base.digest in pinned
    return msgspec.structs.replace(base, tagged=tagged, replaced="" if current else base.replaced or now)


def _until(settings: Base, known: KnownBase) -> KnownBase:
    replaced = read_time(known.replaced, zone=UTC) if known.replaced else None
    if replaced is None or settings.keep is None:
        return known
    return msgspec.structs.replace(known, until=(replaced + settings.keep).strftime(TIME_FORMAT))


def _remembered(documents: Documents, base: Base) -> list[KnownBase]:
    found = documents.read(_name(base), most=MAX_BYTES)
    return _decoded(found.content if found else None, documents, base)


def _decoded(raw: bytes | None, documents: Documents, base: Base) -> list[KnownBase]:
    where = f"{documents.where}/{_name(base)}"
    return decode_json(raw, list[KnownBase], where=where, what="list of bases") if raw is not None else []


def images_on(session: Session, known: Sequence[KnownBase]) -> tuple[list[OnBase], list[str]]:
    """What each image's newest release, and each that a channel names, stands on; and which images cannot be read."""
    found: list[OnBase] = []
    notes: list[str] = []
    verifier = session.keys.trusted_if_any()

    def look(image: Image) -> list[OnBase] | str:
        try:
            return list(_of_image(session, image, known, verifier))
        except RegistryPipelinesError as error:
            return f"{image.name} cannot be looked at: {error}"

    with Pool(LOOKUP_THREADS, "bases") as pool:
        for answer in pool.map(look, session.config.images.values()):
            if isinstance(answer, str):
                notes.append(answer)
            else:
                found += answer
    return found, notes


def _of_image(session: Session, image: Image, known: Sequence[KnownBase], verifier: KeySet | None) -> Iterator[OnBase]:
    place = session.places.source(image)
    releases = sorted(releases_of(session, image), key=lambda release: order_key(release.tag))
    by_digest = {release.digest: release for release in releases}
    channels: dict[Digest, list[str]] = {}
    for channel in image.order:
        if digest := digest_at(place, channel.name):
            channels.setdefault(digest, []).append(channel.name)
    looked = dict.fromkeys([*channels, *([releases[-1].digest] if releases else [])])
    for digest in looked:
        release = by_digest.get(digest) or Release(image.name, channels[digest][0], digest)
        top = place.registry.get_manifest(place.repository, digest)
        images = read_images(place, top)
        origins: tuple[Origin, ...] = ()
        if verifier is not None and image.forms:
            attested = read_attestations(place, digest, verifier)
            origins = read_origins(place, attested, digest, images, verifier)[0]
        standing = read_standing_on(place, images, origins, known)
        for entry in images:
            yield OnBase(release, entry, standing[entry.digest], tuple(channels.get(digest, ())))


def _row(each: OnBase) -> dict[str, Scalar]:
    base = each.base
    return {
        "image": each.release.image,
        "release": each.release.tag,
        "channels": ", ".join(each.channels),
        "platform": str(each.entry.platform),
        "base": base.name if base else "",
        "state": each.state,
        "base_digest": base.digest if base else "",
        "replaced": base.replaced if base else "",
        "bytes": sum(base.sizes) if base else 0,
    }


def _listed(known: Iterable[KnownBase]) -> list[dict[str, Scalar]]:
    """By name, the newest first."""
    newest = sorted(known, key=lambda base: base.seen, reverse=True)
    ordered = sorted(newest, key=lambda base: (base.name, bool(base.replaced)))
    return [
        {
            "base": base.name,
            "digest": base.digest,
            "platform": base.platform,
            "layers": len(base.layers),
            "bytes": sum(base.sizes),
            "state": "current" if not base.replaced else "older",
            "seen": base.seen,
            "counts_until": base.until,
        }
        for base in ordered
    ]


def _rebuilds(session: Session, stale: Sequence[OnBase], known: Sequence[KnownBase]) -> list[str]:
    """What is to be done for each image that stands on an older base."""
    current = {base.name: base for base in known if not base.replaced}
    steps: dict[str, None] = {}
    for each in stale:
        assert each.base is not None  # noqa: S101 - older than another
        image = session.image(each.release.image)
        newest = current.get(each.base.name)
        why = f"{each.release.tag} stands on {each.base.label}"
        why += f", {newest.digest.short} is the current one" if newest else ", which the tag names no more"
        if image.made_here is None:
            steps[f"Build {image.name} again where it is built, and push a new release: {why}"] = None
        elif _is_buildable(session, image):
            steps[f"{typed(session.config, 'build', image.name)}  # {image.made_here.version}: {why}"] = None
        else:
            steps[f"In `images.{image.name}.{image.section}` set a new `version`, and build it: {why}"] = None
    return list(steps)


def _is_buildable(session: Session, image: Image) -> bool:
    """Whether its configured version is not there yet."""
    return image.made_here is not None and digest_at(session.places.source(image), built_tag(image)) is None
