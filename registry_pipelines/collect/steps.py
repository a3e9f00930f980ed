"""In which order things go: so that whatever still has a tag can be pulled whole, between any two deletions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from registry_pipelines.collect.units import Unit
from registry_pipelines.inventory.survey import Survey
from registry_pipelines.oci.digest import Digest

Leads = Callable[[Digest], Iterable[Digest]]
"""A manifest to those that it needs, or that go after it."""


def sequence(
    survey: Survey, units: Sequence[Unit], named: Mapping[Digest, Sequence[Digest]], live: set[Digest]
) -> tuple[list[Unit], dict[Digest, tuple[Digest, ...]]]:
    """The units, those that go in an order in which they can, and per unit that goes what is deleted with it, in order,
    each manifest once. named: manifest to what its digest-named tags point to. live: what stays.

    The image goes first, so nothing that has a tag ever lacks its evidence; an index before its children (ECR refuses a
    child while its index is there); a fallback tag before the referrers it lists, so that it is not rewritten for each.
    What several of them need goes with the last one. What is listed wrongly protects what it names, and takes nothing
    away.
    """
    whole = {unit.digest: _whole(survey, unit.digest, named) for unit in units if not unit.reasons}
    going = {unit.digest: unit for unit in units if not unit.reasons}
    before: dict[Digest, list[Digest]] = {}
    for digest, needs in whole.items():
        for one in needs:
            if one in going and one != digest:
                before.setdefault(one, []).append(digest)
    order = _after(going, lambda digest: before.get(digest, ())) if before else list(going)
    taken, steps = set(live), {}
    for digest in reversed(order):
        own = tuple(one for one in whole[digest] if one not in taken)
        taken.update(own)
        steps[digest] = own
    waiting = iter(order)
    placed = [unit if unit.reasons else going[next(waiting)] for unit in units]
    return placed, {digest: steps[digest] for digest in order}


def _whole(survey: Survey, digest: Digest, named: Mapping[Digest, Sequence[Digest]]) -> list[Digest]:
    """All that goes with an image where nothing else needs it."""
    node = survey.nodes[digest]
    if not node.children and not node.referrers and digest not in named:
        return [digest]  # most of them: a plan of a million images is made in seconds so

    def children(one: Digest) -> Iterable[Digest]:
        return survey.nodes[one].children

    def attached(one: Digest) -> Iterable[Digest]:
        return (*survey.nodes[one].children, *sorted(survey.attached(one)))

    images = _parents_first([digest], children)
    evidence = _parents_first(images, attached)
    tagged = [one for image in evidence for one in named.get(image, ())]
    below = _parents_first(tagged, attached)
    return list(dict.fromkeys([*images, *tagged, *evidence, *below]))


def _parents_first(start: Iterable[Digest], leads_to: Leads) -> list[Digest]:
    """All that is reached, each before whatever it leads to."""
    return _after(reversed(list(dict.fromkeys(start))), leads_to)[::-1]


def _after(start: Iterable[Digest], needs: Leads) -> list[Digest]:
    """All that is reached, each after whatever it needs; a circle is broken somewhere."""
    done: dict[Digest, None] = {}
    begun: set[Digest] = set()
    for first in start:
        stack = [(first, False)]
        while stack:
            digest, ready = stack.pop()
            if ready:
                done[digest] = None
            elif digest not in begun:
                begun.add(digest)
                stack.append((digest, True))
                stack.extend((one, False) for one in reversed(list(needs(digest))) if one not in begun)
    return list(done)
