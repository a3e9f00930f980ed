"""The tags of a repository to choose from: those that are listed, and those that are there all the same."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from registry_pipelines.errors import NotFound, RegistryError
from registry_pipelines.registry.hidden import could_be_hidden, hidden_tags, likely_to_hide, shows_such_tags
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.transfer.closure.selector import Selector

MAX_TAGS = 1_000_000
"""Tags of one repository that are chosen from, about 100 MB of names; Docker Hub's largest have some ten thousand."""

SUSPICIOUS_TAGS = 20
"""Tags of which so many are versions and none begins with another: unlikely, but where some are not listed."""

SAMPLED_TAGS = 4
"""Tags behind which a suspicious list is asked for more; only where that finds one, it is behind all."""


class Listed(msgspec.Struct, frozen=True):
    """The tags of a repository. listed: as the registry lists them, each once. also: those that are there and not
    listed."""

    listed: Sequence[str] = ()
    also: Sequence[str] = ()

    @property
    def every(self) -> list[str]:
        """All of them."""
        return [*self.listed, *self.also]


def list_tags(place: Place, chosen: Selector, *, from_catalogue: bool = False) -> Listed:
    """All tags. Where a tag that ``chosen`` names in full is not listed, and may be hidden, it is asked for. Raises
    RegistryError. from_catalogue: the registry named the repository, so that it has no tags is no error."""
    every: dict[str, None] = {}
    try:
        for tag in place.registry.tags(place.repository):
            every[tag] = None
            if len(every) > MAX_TAGS:
                raise RegistryError(
                    f"it has more than {MAX_TAGS} tags", where=str(place), do="Copy chosen tags by name"
                )
    except NotFound as error:
        # So says docker-registry of a repository without tags: a blob was pushed and no manifest, or the last tag went.
        if not from_catalogue or error.code != "NAME_UNKNOWN":
            raise
        return Listed()
    listed = list(every)
    return Listed(listed, _not_listed(place, listed, chosen))


def _not_listed(place: Place, listed: Sequence[str], chosen: Selector) -> list[str]:
    known = set(listed)
    named = [name for name in chosen.full_names if name not in known and could_be_hidden(name, known)]
    names = {name: None for name in named if digest_at(place, name)}
    versions = likely_to_hide(listed, len(listed))
    if len(versions) >= SUSPICIOUS_TAGS and not chosen.names_all and not shows_such_tags(known):
        sample = hidden_tags(place, listed, among=versions[:SAMPLED_TAGS])
        names |= dict.fromkeys(hidden_tags(place, listed).tags if sample.tags else ())
    return list(names)
