"""``ls``: what a registry or a repository holds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.names import PLACES
from registry_pipelines.cli.output import (
    console,
    print_lines,
    rows_table,
    worth_showing,
)
from registry_pipelines.cli.references import is_release
from registry_pipelines.errors import InputError, Unsupported
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.tags import order_key
from registry_pipelines.progress import age_text, count_text
from registry_pipelines.registry.contents import Contents, contents_of
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.threads import Pool
from registry_pipelines.transfer.closure.digest_tags import is_named_after_digest
from registry_pipelines.transfer.closure.listed import list_tags
from registry_pipelines.transfer.closure.selector import ALL

if TYPE_CHECKING:
    from registry_pipelines.chain.places import Places
    from registry_pipelines.config import Config

LIST_THREADS = 8
"""Small requests at once: latency counts, and registries limit requests by the second."""

MOST_OPENED = 100
"""Images that are opened for their age and size unless ``--long`` asks for all. Docker Hub gives 100 manifests in six
hours to who is not logged in; HEADs, which tell the digest, are free there."""


@click.command("ls")
@click.argument("where", metavar="REGISTRY|REPOSITORY", shell_complete=PLACES)
@click.option(
    "--all", "everything", is_flag=True, help="Also tags named after digests: signatures, lists of referrers."
)
@click.option(
    "--long", "opened", is_flag=True, help=f"Age and size also where there are more than {MOST_OPENED} images."
)
@common
def ls(options: Options, where: str, everything: bool, opened: bool) -> None:
    """List the tags of a repository, with digest, age and size; or the repositories of a registry.

    REGISTRY is a name of the configuration or a host; REGISTRY/PREFIX/ lists what is below. REPOSITORY is written as
    for Docker, or is an image of the configuration. Ages are those of the images, not of the push.
    """
    config = options.config_if_any()
    with options.places([where if config is None else _registry_of(config, where)]) as places:
        if where.endswith("/") or ("/" not in where and _is_registry(config, where)):
            _list_repositories(options, places, where.rstrip("/"), config)
        else:
            _list_tags(options, _repository(places, config, where), everything=everything, opened=opened)


def _registry_of(config: Config, where: str) -> str:
    """What must be listening: the registry of an image, else what stands in front."""
    image = config.images.get(where)
    return image.registry if image and where not in config.registries else where


def _is_registry(config: Config | None, name: str) -> bool:
    """A configured name, or what can only be a host: Docker reads a word alone as an image of Docker Hub."""
    if config is not None and (name in config.registries or name.partition(":")[0] in config.images):
        return name in config.registries
    return "." in name or ":" in name or name == "localhost"


def _repository(places: Places, config: Config | None, where: str) -> Place:
    if is_release(config, where):
        if config is None or where not in config.images:
            raise InputError(f"{where!r} names a tag or digest where a repository is wanted")
        return places.source(config.images[where])
    return places.place(where)


def _list_repositories(options: Options, places: Places, where: str, config: Config | None) -> None:
    registry, prefix = places.open(where)
    note = ""
    try:
        names = [name for name in registry.repositories() if not prefix or name.startswith(f"{prefix}/")]
    except Unsupported as error:
        names = _configured(places, config, registry.name, prefix)
        if not names:
            raise
        note = f"{error.what}: these are those of the configuration; there may be more"
    names = sorted(set(names))
    if options.as_json:
        print_json({"registry": registry.name, "complete": not note, "repositories": names, "note": note})
        return
    out = console()
    for name in names:
        out.print(name, markup=False, soft_wrap=True)
    if not names:
        below = f" below {prefix}" if prefix else ""
        out.print(f"{registry.name} lists no repository{below}", markup=False, soft_wrap=True)
    print_lines([note] if note else [])


def _configured(places: Places, config: Config | None, host: str, prefix: str) -> list[str]:
    """Repositories of a registry that images and their targets name."""
    images = config.images.values() if config else ()
    known = [places.source(image) for image in images]
    known += [places.target(image, target) for image in images for target in image.targets]
    return [
        place.repository
        for place in known
        if place.registry.name == host and (not prefix or place.repository.startswith(f"{prefix}/"))
    ]


def _list_tags(options: Options, place: Place, *, everything: bool, opened: bool) -> None:
    tags = list_tags(place, ALL).every
    shown = tags if everything else [tag for tag in tags if not is_named_after_digest(tag)]
    with Pool(LIST_THREADS, "ls") as pool:
        named = dict(zip(shown, pool.map(lambda tag: digest_at(place, tag), shown), strict=True))
        digests = list(dict.fromkeys(digest for digest in named.values() if digest))
        opens = opened or len(digests) <= MOST_OPENED
        read = pool.map(lambda digest: contents_of(place, digest), digests) if opens else ()
        known = dict(zip(digests, read, strict=True)) if opens else {}
    rows = [_row(tag, digest, known) for tag, digest in named.items() if digest]
    rows.sort(key=lambda row: (row["created"], order_key(row["tag"])), reverse=True)
    notes = _notes(len(tags) - len(shown), len(digests) if not opens else 0, [tag for tag in named if not named[tag]])
    if options.as_json:
        print_json({"repository": str(place), "tags": rows, "notes": notes})
        return
    now = datetime.now(UTC)
    if rows:
        table = worth_showing([_shown(row, now) for row in rows], ("age", "size", "platforms", "kind", "problem"))
        console().print(rows_table(table, title=str(place), limit=len(table)))
    else:
        console().print(f"{place} has no tags", markup=False, soft_wrap=True)
    print_lines(notes)


def _row(tag: str, digest: Digest, known: Mapping[Digest, Contents]) -> dict[str, Any]:
    """One tag; ``size_bytes`` is None where the image was not opened or could not be read."""
    contents = known.get(digest)
    created = contents.created.isoformat().replace("+00:00", "Z") if contents and contents.created else ""
    return {
        "tag": tag,
        "digest": digest,
        "created": created,
        "size_bytes": contents.size_bytes if contents and not contents.problem else None,
        "platforms": list(contents.platforms) if contents else [],
        "kind": contents.kind if contents else "",
        "problem": contents.problem if contents else "",
    }


def _shown(row: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    created = datetime.fromisoformat(row["created"]) if row["created"] else None
    return {
        "tag": row["tag"],
        "digest": row["digest"],
        "age": age_text((now - created).total_seconds()) if created else "",
        "size": "" if row["size_bytes"] is None else row["size_bytes"],
        "platforms": ", ".join(row["platforms"]),
        "kind": "" if row["kind"] in ("image", "index") else row["kind"],
        "problem": row["problem"],
    }


def _notes(hidden: int, unopened: int, vanished: list[str]) -> list[str]:
    notes = [f"{tag} was gone when it was looked at" for tag in vanished]
    if hidden:
        verb = "is" if hidden == 1 else "are"
        what = f"{count_text(hidden, 'tag')} named after {'a digest' if hidden == 1 else 'digests'}"
        notes.append(f"{what} {verb} not shown (signatures, lists of referrers): --all")
    if unopened:
        notes.append(f"age and size of {count_text(unopened, 'image was', 'images were')} not asked for: --long")
    return notes


COMMANDS = [ls]
