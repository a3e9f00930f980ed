"""Sets of weights between registries, object stores and folders; and those that the configuration keeps in several
places."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from registry_pipelines.chain.places import Located
from registry_pipelines.chain.result import StageResult
from registry_pipelines.config import Config, StoreRegistry
from registry_pipelines.errors import InputError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.progress import count_text
from registry_pipelines.registry.tags import told_replaced
from registry_pipelines.stores.store import ObjectStore, open_store
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.weights.ends import from_registry, from_store
from registry_pipelines.weights.in_store import look
from registry_pipelines.weights.opening import open_weights
from registry_pipelines.weights.paths import SIGNATURE_FILE, is_store
from registry_pipelines.weights.to_image import register_image
from registry_pipelines.weights.to_registry import Carried, register_weights
from registry_pipelines.weights.to_store import Source, store_weights

Locate = Callable[..., Located]


@dataclass(frozen=True)
class Put:
    """A set that is somewhere now. how: files by what was done for each; removed, strangers: of a store; signature:
    what became of it in a registry; replaced: what the tag named there before, where that was something else."""

    subject: str
    digest: str
    changed: bool
    how: Counter[str]
    bytes_sent: int
    removed: tuple[str, ...] = ()
    strangers: tuple[str, ...] = ()
    signature: Carried = "none"
    replaced: Digest | None = None


def store_at(config: Config | None, address: str, *, make: bool = False) -> ObjectStore:
    """A store by its address. A bucket that a registry of the configuration is in is reached as that says: endpoint,
    region, profile. make: a folder that is not there, for who writes. Raises InputError, NotFound, ToolMissing."""
    settings = _bucket(config, address)
    return open_store(
        address,
        region=settings.region if settings else "",
        endpoint=settings.endpoint if settings else "",
        aws_profile=settings.aws_profile if settings else "",
        lasting_uploads=True,
        make=make,
    )


def _bucket(config: Config | None, address: str) -> StoreRegistry | None:
    if config is None or "://" not in address:
        return None
    try:
        wanted = urlsplit(address)
    except ValueError:  # who opens it says so
        return None
    for each in config.registries.values():
        if isinstance(each, StoreRegistry):
            there = urlsplit(each.address)
            if (there.scheme, there.netloc) == (wanted.scheme, wanted.netloc):
                return each
    return None


def source_at(config: Config | None, text: str, locate: Locate) -> Source:
    """What a text names: a store or folder with a whole set, or weights of a registry. Raises NotFound, InputError,
    ContentError, the RegistryError family."""
    if is_store(text):
        return from_store(store_at(config, text))
    found = locate(text)
    return from_registry(open_weights(found.place, found.selector))


def put(
    source: Source, config: Config | None, text: str, locate: Locate, engine: Engine, *, image: Platform | None = None
) -> Put:
    """Have a set where a text says: below a prefix, or under a tag. image: there as a plain image, for nodes of this
    platform. Raises InputError (no tag, something else lies there), ContentError, DiskFull, the RegistryError family;
    then the next run goes on."""
    _check_form(text, image)
    if is_store(text):
        done = store_weights(source, store_at(config, text, make=True), engine=engine)
        return Put(
            done.store, done.descriptor.digest, done.changed, done.files, done.bytes_sent, done.removed, done.strangers
        )
    goal = _goal(text, locate)
    if image is None:
        sent = register_weights(source, goal.place, goal.tag, engine=engine)
    else:
        sent = register_image(source, goal.place, goal.tag, platform=image, engine=engine)
    return Put(
        f"{goal.place}:{goal.tag}",
        sent.descriptor.digest,
        sent.changed,
        sent.files,
        sent.bytes_sent,
        signature=sent.signature,
        replaced=sent.replaced,
    )


def check_goal(config: Config | None, text: str, locate: Locate, image: Platform | None) -> None:
    """Raise what :func:`put` would raise at once: no tag, no such bucket, no right to see it, something else there."""
    _check_form(text, image)
    if not is_store(text):
        _goal(text, locate)
    elif "://" in text:
        look(store_at(config, text))


def _check_form(text: str, image: Platform | None) -> None:
    if is_store(text) and image is not None:
        raise InputError("an image is wanted, and this is no registry", where=text, do="Leave --form image out")


def _goal(text: str, locate: Locate) -> Located:
    goal = locate(text, default_tag="")
    if not goal.tag or goal.digest:
        raise InputError("weights are pushed under a tag", where=text, do="Write REGISTRY/REPOSITORY:TAG")
    return goal


def result_of(done: Put, source: Source, began: float, notes: tuple[str, ...] = ()) -> StageResult:
    """What a person is told. began: by ``time.monotonic``."""
    told = [*notes]
    told += told_replaced(done.replaced)
    if done.signature == "of other files":
        told.append(
            f"the signature beside them ({SIGNATURE_FILE}) is not about exactly these files by their sha256, and was "
            "left behind"
        )
    elif done.signature != "none":
        told.append(f"their signature ({SIGNATURE_FILE}) is attached; who made it is not asked here")
    if done.removed:
        told.append(f"{count_text(len(done.removed), 'file')} of the set before removed: {', '.join(done.removed[:5])}")
    if done.strangers:
        others = count_text(len(done.strangers), "object")
        told.append(f"{others} there not of these weights, and left alone: {', '.join(done.strangers[:5])}")
    counts = ", ".join(f"{done.how[each]} {each}" for each in ("copied", "mounted", "present") if done.how[each])
    return StageResult(
        stage="weights",
        subject=done.subject,
        action=counts if done.changed else "unchanged",
        digest=done.digest,
        changed=done.changed,
        bytes_moved=done.bytes_sent,
        seconds=time.monotonic() - began,
        facts={
            "files": len(source.weights.files),
            "size_bytes": source.weights.size,
            **{each: done.how[each] for each in ("copied", "mounted", "present")},
            "removed": len(done.removed),
            "strangers": len(done.strangers),
        },
        notes=told,
    )


def check_at(source: Source, config: Config | None, text: str, locate: Locate) -> list[str]:
    """Why a place does not have all of a set, one sentence each; none where it has. What is compared is the digest of
    the artifact and the size of each file there, as the place says; nothing is read."""
    digest = source.manifest.digest
    if is_store(text):
        from registry_pipelines.weights.in_store import open_stored

        found = open_stored(store_at(config, text))
        problems = [f"{text}: {path} is not there, or of another size" for path in found.sizes_wrong]
        if found.manifest.digest != digest:
            problems.append(f"{text} has {found.manifest.digest}, not {digest}")
        return problems
    goal = locate(text, default_tag="")
    opened = open_weights(goal.place, goal.selector)
    if opened.descriptor.digest != digest:
        return [f"{text} has {opened.descriptor.digest}, not {digest}"]
    registry, repository = opened.content.registry, goal.place.repository
    return [
        f"{text}: {file.path} is not there, or of another size"
        for file in opened.weights.files
        if registry.blob_size(repository, file.digest) != file.size
    ]


__all__ = ["Put", "check_at", "check_goal", "put", "result_of", "source_at", "store_at"]
