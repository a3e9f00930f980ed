"""What is needed again of what was set aside: the platform of an index that was pushed a moment too late.

``meanwhile`` sees what comes while a plan is applied. Who looked for a platform before that and pushed the index of it
afterwards comes too late for it, and has an index that lacks it; not every registry refuses such an index. As long as
it is set aside it is brought back, before anything is deleted for good.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Executor
from contextlib import suppress

from registry_pipelines.collect.records import Record
from registry_pipelines.collect.within import Brought, bring, read_pieces
from registry_pipelines.errors import NotFound
from registry_pipelines.inventory.survey import survey
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import Place


def missing(place: Place) -> frozenset[Digest]:
    """What indexes of a repository list and it does not have; a copy of chosen platforms has such indexes for good.
    Empty where the repository is gone. Raises RegistryError, ContentError."""
    with suppress(NotFound):
        return frozenset(one for node in survey(place).nodes.values() for one in node.missing)
    return frozenset()


def bring_needed(place: Place, aside: Place, records: Iterable[Record], pool: Executor) -> dict[Digest, Record]:
    """Bring back what is missing and set aside, with the evidence that went with it, each with the record that keeps
    it. The records stay. Raises RegistryError, ContentError."""
    lacking = missing(place)
    needed: dict[Digest, Record] = {}
    for record in records:
        held = {Digest.parse(one) for one in record.held}
        wanted = (held & lacking) - needed.keys()
        if wanted:
            pieces = read_pieces(aside, [*wanted, *_evidence(aside, wanted, held)])
            bring(pieces, aside, place, pool, Brought())
            needed.update(dict.fromkeys(wanted, record))
    return needed


def _evidence(aside: Place, subjects: Iterable[Digest], held: Iterable[Digest]) -> set[Digest]:
    """What refers to some manifests, and to that again, among what is set aside."""
    about: dict[Digest, set[Digest]] = {}
    for digest, stored in read_pieces(aside, held).manifests.items():
        subject = stored.content().subject
        if subject is not None:
            about.setdefault(subject.digest, set()).add(digest)
    found: set[Digest] = set()
    waiting = list(subjects)
    while waiting:
        below = about.get(waiting.pop(), set()) - found
        found |= below
        waiting += below
    return found
