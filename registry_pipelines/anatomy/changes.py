"""How often each layer of an image changed over its last releases, and how many bytes a release moved: by manifests and
configs alone, so that it costs two small requests a release.

A release moves the layers that the one before it does not have: that is what a node, a registry or a mirror that had
that one fetches. Layers are paired from release to release as lines of two versions of a text are: equal digests are
anchors, and what stands between two anchors is paired in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from difflib import SequenceMatcher
from itertools import pairwise

from registry_pipelines.anatomy.report import Changes, LayerChange, LayerPart, ReleaseMove
from registry_pipelines.errors import ContentError, InputError, NotFound
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.oci.tags import order_key, read_version
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.lazy.image import NodeImage, image_for
from registry_pipelines.threads import Pool

MAX_RELEASES = 200
"""Read for one answer."""
_THREADS = 8


def earlier_tags(tags: Iterable[str], newest: str, count: int) -> list[str]:
    """``newest`` and, the newest first, the versions before it with the same variant (``slim``), so many in all.

    newest: a version tag, or empty for the highest that there is.
    """
    versions = sorted((tag for tag in tags if read_version(tag)), key=order_key, reverse=True)
    last = read_version(newest or (versions[0] if versions else ""))
    if last is None:
        return [newest] if newest else []
    alike = [tag for tag in versions if (found := read_version(tag)) and found.variant == last.variant]
    if newest:
        alike = [newest, *(tag for tag in alike if order_key(tag) < order_key(newest))]
    return alike[:count]


def read_releases(
    place: Place, tags: Sequence[str], platform: Platform
) -> tuple[list[tuple[str, NodeImage]], list[str]]:
    """The platform's image of each release, in the order of the tags, each digest once; and a sentence for each that
    has none, or is gone. Raises RegistryError: nothing is taken for "unchanged" that could not be read."""

    def read(tag: str) -> NodeImage | str:
        try:
            return image_for(place, tag, platform)
        except NotFound:
            return f"{tag}: it is gone"
        except (InputError, ContentError) as error:
            return f"{tag}: {error.what}"

    with Pool(_THREADS, "releases") as pool:
        found = list(pool.map(read, tags[:MAX_RELEASES]))
    images: dict[Digest, tuple[str, NodeImage]] = {}
    for tag, image in zip(tags, found, strict=False):
        if isinstance(image, NodeImage):
            images.setdefault(image.descriptor.digest, (tag, image))
    return list(images.values()), [each for each in found if isinstance(each, str)]


def changes_of(
    layers: Sequence[LayerPart], releases: Sequence[tuple[str, Sequence[Descriptor]]], notes: Sequence[str] = ()
) -> Changes:
    """layers: of the first release, as its anatomy tells them. releases: tags and layers, the newest first; one alone
    has no change to tell. notes: what was not looked at."""
    count = len(releases) - 1
    times, moved = [0] * len(layers), [0] * len(layers)
    classes: dict[str, float] = {}
    moves, elsewhere = [], 0
    where: list[int | None] = list(range(len(layers)))  # of each layer here, which one of the newest release it became
    for (tag, new), (_, old) in pairwise(releases):
        known = {each.digest for each in old}
        came = [number for number, each in enumerate(new) if each.digest not in known]
        for number in came:
            mine, size = where[number], new[number].size
            if mine is None:
                elsewhere += size
                continue
            times[mine] += 1
            moved[mine] += size
            for name, part in _shares(layers[mine]):
                classes[name] = classes.get(name, 0.0) + size * part
        moves.append(
            ReleaseMove(
                tag=tag,
                compressed=sum(each.size for each in new),
                moved=sum(new[number].size for number in came),
                layers=len(came),
            )
        )
        where = _earlier(where, new, old)
    if releases:
        tag, first = releases[-1]
        moves.append(ReleaseMove(tag=tag, compressed=sum(each.size for each in first), moved=None, layers=None))
    each_release: Callable[[float], int] = lambda total: round(total / count) if count else 0  # noqa: E731
    return Changes(
        releases=tuple(moves),
        moved=each_release(sum(move.moved or 0 for move in moves)),
        layers=tuple(
            LayerChange(number=number, changed=changed, moved=each_release(size))
            for number, (changed, size) in enumerate(zip(times, moved, strict=True), 1)
        ),
        classes={name: each_release(classes[name]) for name in sorted(classes, key=lambda name: -classes[name])},
        elsewhere=each_release(elsewhere),
        notes=tuple(notes),
    )


def _shares(layer: LayerPart) -> list[tuple[str, float]]:
    """Classes of a layer, by unpacked bytes."""
    total = sum(layer.classes.values())
    return [(name, size / total) for name, size in layer.classes.items()] if total else [("(not read)", 1.0)]


def _earlier(where: Sequence[int | None], new: Sequence[Descriptor], old: Sequence[Descriptor]) -> list[int | None]:
    """The same of the release before."""
    found: list[int | None] = [None] * len(old)
    matcher = SequenceMatcher(None, [each.digest for each in old], [each.digest for each in new], autojunk=False)
    for kind, old_start, old_stop, new_start, new_stop in matcher.get_opcodes():
        if kind in ("equal", "replace"):
            for mine, theirs in zip(range(old_start, old_stop), range(new_start, new_stop), strict=False):
                found[mine] = where[theirs]
    return found
