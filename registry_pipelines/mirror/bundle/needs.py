"""What a bundle leaves out, looked for at the far side before anything is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from registry_pipelines.errors import ClosureIncomplete
from registry_pipelines.mirror.bundle.far import FarState
from registry_pipelines.mirror.bundle.format import Bundle, Need, bundle_name
from registry_pipelines.mirror.bundle.opened import OpenBundle
from registry_pipelines.oci.digest import Digest
from registry_pipelines.progress import count_text, size_text
from registry_pipelines.registry.protocol import BlobSizes, Place, Registry
from registry_pipelines.threads import Pool

LOOK_THREADS = 16
"""Small requests, so latency counts."""

MAX_NAMED = 5
"""Bundles or digests that one message names."""


def sizes_at(place: Place, digests: Sequence[Digest]) -> Mapping[Digest, int]:
    """Bytes of those of the blobs that a repository has. Raises RegistryError."""
    if not digests:
        return {}
    if isinstance(place.registry, BlobSizes):
        return place.registry.blob_sizes(place.repository, digests)
    with Pool(LOOK_THREADS, "sizes") as pool:
        sizes = pool.map(lambda digest: place.registry.blob_size(place.repository, digest), digests)
        return {digest: size for digest, size in zip(digests, sizes, strict=True) if size is not None}


def require_needs(bundles: Sequence[OpenBundle], far: Registry, state: FarState) -> None:
    """Find what each bundle leaves out in the far side's registry, and note where (``OpenBundle.held``). What an
    earlier one of these bundles brings counts as there. Raises ClosureIncomplete, which names the bundles that are
    missing; RegistryError."""
    coming: dict[Digest, str] = {}
    for opened in bundles:
        lacking = locate(opened, far, state)
        missing = [need for need in lacking if need.digest not in coming]
        if missing:
            raise _missing_base(opened.bundle, missing, far, state)
        opened.held.update({need.digest: coming[need.digest] for need in lacking})
        for repository, blobs in opened.content.items():
            coming.update(dict.fromkeys(blobs, repository))


def locate(opened: OpenBundle, far: Registry, state: FarState) -> list[Need]:
    """Note where each thing is that the bundle leaves out; returns what is nowhere. Asked are the repository that the
    bundle names, then those to which bundles ever brought it, then those for which it is wanted."""
    holders = state.holders() if opened.bundle.needs else {}
    left = list(opened.bundle.needs)
    places = {
        need.digest: list(
            dict.fromkeys([need.repository, *holders.get(need.digest, ()), *sorted(opened.needs_of[need.digest])])
        )
        for need in left
    }
    while left:
        asked: dict[str, list[Need]] = {}
        for need in left:
            if places[need.digest]:
                asked.setdefault(places[need.digest].pop(0), []).append(need)
        if not asked:
            break
        for repository, needs in asked.items():
            sizes = sizes_at(Place(far, repository), [need.digest for need in needs])
            found = [need for need in needs if sizes.get(need.digest) == need.size]
            opened.held.update(dict.fromkeys((need.digest for need in found), repository))
            gone = {need.digest for need in found}
            left = [need for need in left if need.digest not in gone]
    return left


def _missing_base(bundle: Bundle, missing: Sequence[Need], far: Registry, state: FarState) -> ClosureIncomplete:
    count, size = count_text(len(missing), "blob"), size_text(sum(need.size for need in missing))
    numbers = sorted({need.number for need in missing if need.number})
    never = [each for each in numbers if each not in state.loaded.get(bundle.line, ())]
    others = [each for each in numbers if each not in never]
    why = [
        *([f"{_names(bundle, never)} brought them, and {_was(never)} not loaded here"] if never else []),
        *([f"{_names(bundle, others)} brought them, and they are gone from there since"] if others else []),
    ]
    if bundle.receipt and bundle.receipt.far != state.far:
        why.append("it builds on a receipt of another far side")
    if not numbers:
        why.append(f"the first is {missing[0].digest}, once in {missing[0].repository}")
    load = f"Load {_names(bundle, never)} first, or have" if never else "Have"
    return ClosureIncomplete(
        f"{count} ({size}) that {bundle.name} leaves out {'is' if len(missing) == 1 else 'are'} not at {far.name}: "
        f"{'; '.join(why)}",
        where=bundle.name,
        do=f"{load} the near side make a bundle with a receipt of now (`bundle receipt`), or a full one (`bundle create"
        " --full`); nothing was written",
    )


def _names(bundle: Bundle, numbers: Sequence[int]) -> str:
    named = [bundle_name(bundle.mirror, number) for number in numbers[:MAX_NAMED]]
    more = len(numbers) - len(named)
    return " and ".join(filter(None, [", ".join(named), f"{more} others" if more else ""]))


def _was(numbers: Iterable[int]) -> str:
    return "was" if len(list(numbers)) == 1 else "were"
