"""Make a receipt: ask the far side's registry for all that bundles ever brought, and sign what it has now.

docker-registry and others drop a blob that no manifest names any more, whenever their collector runs; so a receipt
never promises one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from registry_pipelines.evidence.model import Signer
from registry_pipelines.mirror.bundle.far import FarFolder, FarRepository, FarState
from registry_pipelines.mirror.bundle.needs import LOOK_THREADS, sizes_at
from registry_pipelines.mirror.bundle.receipt import (
    BundleReceipt,
    HeldRepository,
    LoadedBundle,
    SignedReceipt,
    sign_receipt,
)
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import Place, Registry
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.threads import Pool
from registry_pipelines.transfer.delivery.look import there_of


@dataclass(frozen=True)
class Confirmed:
    """A receipt that was made. gone: how many of the things that bundles brought the registry does not have any
    more."""

    signed: SignedReceipt
    gone: int


def confirm(far: FarFolder, registry: Registry, signer: Signer, *, now: datetime) -> Confirmed:
    """Read everything back and make the next receipt; a copy stays in the state. Asked are one HEAD for each blob,
    manifest and tag, or one question about many where the registry has one. Raises RegistryError where the registry
    does not answer clearly: what could not be looked at is never left out silently. StateLocked, LocalError."""
    with far.held() as state:
        places = {name: Place(registry, name) for name in sorted(state.repositories)}
        held = {name: _held(place, state.repositories[name]) for name, place in places.items()}
        state.sequence += 1
        receipt = BundleReceipt(
            mirror=far.mirror,
            far=state.far,
            sequence=state.sequence,
            made_at=now.isoformat(timespec="seconds"),
            registry=registry.name,
            loaded=_loaded(state),
            repositories={name: each for name, each in held.items() if each != HeldRepository()},
        )
        signed = sign_receipt(receipt, signer)
        far.save(state)
        far.keep_receipt(state.sequence, signed.raw)
        gone = sum(
            len(state.repositories[name].manifests) + len(state.repositories[name].blobs) for name in held
        ) - sum(len(each.manifests) + len(each.blobs) for each in held.values())
        return Confirmed(signed, gone)


def _loaded(state: FarState) -> tuple[LoadedBundle, ...]:
    return tuple(sorted(LoadedBundle(line, number) for line, numbers in state.loaded.items() for number in numbers))


def _held(place: Place, known: FarRepository) -> HeldRepository:
    """A blob counts while a manifest that is there names it: another one is what the registry's collector takes next,
    and a bundle that left it out could not be loaded then."""
    there = _manifests(place, [Digest(each) for each in sorted(known.manifests)])
    named = {blob for digest in there for blob in known.manifests[digest]}
    sizes = sizes_at(place, [Digest(each) for each in sorted(named)])
    return HeldRepository(
        tags=_tags(place, sorted(known.tags)),
        manifests=tuple(sorted(there)),
        blobs=tuple(sorted(digest for digest, size in sizes.items() if size == known.blobs[digest])),
    )


def _manifests(place: Place, digests: Sequence[Digest]) -> set[Digest]:
    with Pool(LOOK_THREADS, "confirm") as pool:
        pieces = [digests[at : at + 100] for at in range(0, len(digests), 100)]
        return set().union(*pool.map(lambda piece: there_of(place, piece), pieces))


def _tags(place: Place, tags: Sequence[str]) -> dict[str, str]:
    with Pool(LOOK_THREADS, "confirm") as pool:
        digests = pool.map(lambda tag: digest_at(place, tag), tags)
        return {tag: digest for tag, digest in zip(tags, digests, strict=True) if digest}
