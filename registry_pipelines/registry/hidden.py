"""Tags that a registry has and does not list.

distribution 3.1.0 and 3.1.1 on S3 leave out each tag that begins with another one and goes on with a letter, a digit
or ``_``: with 0.1.2 there, 0.1.20 is missing (distribution/distribution#4891, mended by #4898 in June 2026). Pulling it
works. ``-`` and ``.`` sort before the ``/`` that ends a folder's name, so 0.1.2-slim is not missing.

The gap shows when the list is asked for from behind the shorter tag: its objects lie under ``0.1.2/``, so what comes
after ``0.1.2/~`` is 0.1.20, and it is listed. Other registries list what they list always.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from registry_pipelines.errors import NotFound, RegistryError, Unsupported
from registry_pipelines.oci.tags import natural
from registry_pipelines.registry.client.words import family_of
from registry_pipelines.registry.protocol import Place, TagsAfter

MAX_HIDDEN = 10_000
"""Hidden tags of one repository; more are no fault of a list."""

_BEHIND = "/~"
"""After all objects of a tag's own, before the next tag; no tag has such a name."""


class Hidden(msgspec.Struct, frozen=True):
    """What asking around found. tags: there, and not listed. asked: requests made; 0 where the list shows that the
    registry has not this fault, or it cannot be asked."""

    tags: tuple[str, ...] = ()
    asked: int = 0


def hidden_tags(place: Place, listed: Collection[str], *, among: Iterable[str] | None = None) -> Hidden:
    """Tags that the list left out, one request for each that may hide others. listed: the whole list. among: ask behind
    these only. Raises RegistryError (a registry that fails says nothing)."""
    known, asked = set(listed), 0
    registry = place.registry
    if not isinstance(registry, TagsAfter) or family_of(registry.name) or shows_such_tags(known):
        return Hidden()
    hidden: list[str] = []
    waiting = list(listed if among is None else among)[::-1]
    while waiting and len(hidden) <= MAX_HIDDEN:
        tag = waiting.pop()
        asked += 1
        try:
            following = registry.tags_after(place.repository, tag + _BEHIND, 1)
        except (Unsupported, NotFound):
            return Hidden(tuple(sorted(hidden)), asked)
        except RegistryError as error:
            if error.temporary or error.status not in (400, 422):
                raise
            return Hidden(tuple(sorted(hidden)), asked)  # `last` is not to be such a name
        for name in following:
            if name not in known and could_be_hidden(name, known) and _is_there(place, name):
                known.add(name)
                hidden.append(name)
                waiting.append(name)
    return Hidden(tuple(sorted(hidden)), asked)


def could_be_hidden(name: str, listed: Collection[str]) -> bool:
    """Whether a tag may be there although it is not listed: one that is listed would hide it."""
    return any(name[end] > "/" and name[:end] in listed for end in range(1, len(name)))


def shows_such_tags(listed: Collection[str]) -> bool:
    """Whether a list has a tag that the fault would have left out; then there is no such fault."""
    known = set(listed)
    return any(could_be_hidden(tag, known) for tag in known)


def likely_to_hide(listed: Iterable[str], count: int) -> list[str]:
    """Those tags behind which others are likeliest: 1.1 before 1.2, since 1.10 to 1.19 come first."""
    ending = [tag for tag in listed if tag[-1:].isdigit()]
    return sorted(ending, key=lambda tag: (natural(tag)[-1], tag))[:count]


def _is_there(place: Place, tag: str) -> bool:
    try:
        place.registry.resolve(place.repository, tag)
    except NotFound:
        return False
    return True
