"""Say whether the private registry holds what the DMZ does."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from registry_pipelines.chain.mirror_sources import require_lock, upstreams_of
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import ContentError, NotFound, RegistryPipelinesError, exit_code_of_many
from registry_pipelines.mirror.upstreams import OpenUpstream
from registry_pipelines.progress import count_text
from registry_pipelines.registry.protocol import Place
from registry_pipelines.threads import Pool
from registry_pipelines.transfer.closure.digest_tags import is_named_after_digest

if TYPE_CHECKING:
    from registry_pipelines.mirror.lock import LockedTag

COMPARED_AT_ONCE = 8
"""Images that are compared at a time; each is some ten small requests."""


def same_everywhere(session: Session, name: str, *, upstream: str = "") -> StageResult:
    """Whether the private registry holds what the DMZ does, by digest: every tag of the mirror's repositories, and of
    each image manifests, blobs and referrers. Images that a policy holds in front of it are differences, too. Nothing
    is written; ``ok`` where there is no difference. Raises InputError where there is nothing to compare."""
    started = time.monotonic()
    settings = session.mirror(name)
    if settings.via is None or settings.across == "bundle":
        return StageResult(
            stage=f"same:{name}",
            subject=upstream or name,
            action="nothing to compare: " + ("a bundle crosses" if settings.via else "there is no DMZ registry"),
        )
    via, to = session.places.registry(settings.via), session.places.registry(settings.to)
    opened = list(upstreams_of(session, settings, upstream=upstream))
    lines = {(each.repository, each.tag): each for each in (require_lock(settings).tags if settings.lock else ())}
    rows: list[dict[str, Scalar]] = []
    errors: list[RegistryPipelinesError] = []
    for each in {each.repository: each for each in reversed(opened)}.values():
        here, there = Place(via, each.repository), Place(to, each.repository)
        try:
            tags = sorted(_tags(here) | _tags(there))
        except RegistryPipelinesError as error:
            errors.append(error)
            continue
        look = partial(_compared, each, here, there, lines=lines)
        with Pool(COMPARED_AT_ONCE, "same") as pool:
            for found in pool.map(look, tags):
                if isinstance(found, RegistryPipelinesError):
                    errors.append(found)
                else:
                    rows += found
    reasons = [f"{row['repository']}:{row['tag']}: {row['difference']}" for row in rows] + [
        str(each) for each in errors
    ]
    return StageResult(
        stage=f"same:{name}",
        subject=upstream or name,
        action=count_text(len(rows), "difference") if reasons else "the same",
        seconds=time.monotonic() - started,
        facts={"differences": len(rows), "problems": len(errors)},
        rows=rows,
        reasons=reasons,
        ok=not reasons,
        exit_code=exit_code_of_many([*(each.exit_code for each in errors), *(ContentError.exit_code for _ in rows)]),
    )


def _tags(place: Place) -> set[str]:
    """Those that are no evidence; none where there is no such repository yet."""
    try:
        return {tag for tag in place.registry.tags(place.repository) if not is_named_after_digest(tag)}
    except NotFound:
        return set()


def _compared(
    upstream: OpenUpstream, here: Place, there: Place, tag: str, *, lines: Mapping[tuple[str, str], LockedTag]
) -> list[dict[str, Scalar]] | RegistryPipelinesError:
    """What differs in one tag, or why that cannot be told."""
    from registry_pipelines.transfer.verify import examine

    settings, line = upstream.settings, lines.get((upstream.repository, tag))
    platforms = (line.platforms if line.only else ()) if line else settings.platforms
    try:
        found = examine(
            here,
            there,
            tag,
            platforms=platforms if settings.selection == "sparse" else (),
            foreign_layers=settings.foreign_layers,
        )
    except NotFound:
        texts = [f"the private registry has it, and {here.registry.name} has not"]
    except RegistryPipelinesError as error:
        return error
    else:
        texts = [str(each) for each in found.differences]
    return [{"repository": upstream.repository, "tag": tag, "difference": text} for text in texts]
