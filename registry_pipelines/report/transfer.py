"""What images on the move cost a month, by edge: from a registry to the nodes that pull, and from registry to registry.

Pulls times bytes times what a GB costs on the way. What is not known (who pulls, how large it is, a price) makes a row
that says so and adds nothing to the sum, which is then told as "at least".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec

from registry_pipelines.errors import InputError
from registry_pipelines.report.advice import Origin, at_home, cloud_of, way_out
from registry_pipelines.report.arithmetic import DAYS, Line, all_sure, sum_usd, together, told
from registry_pipelines.report.edges import PullEdge
from registry_pipelines.report.prices import PriceBook

NOBODY = "(nobody says who)"
"""In place of an edge."""


class Pulls(msgspec.Struct, frozen=True, kw_only=True):
    """How often something was pulled in the window; None where it is not known. each_bytes: of one pull by a node that
    has nothing of it yet; None where it is not known. size_of: what the size is of, or why it is not known. edge: where
    whoever counted knows it."""

    registry: str
    repository: str
    pulls: float | None
    each_bytes: float | None
    size_of: str = ""
    edge: str = ""
    why: str = ""
    """Why the pulls are not known."""


class Copies(msgspec.Struct, frozen=True, kw_only=True):
    """Releases on their way from one registry to another. releases, moved_bytes: a month, and of one on average; None
    where it is not known (``why``)."""

    source: str
    registry: str
    image: str
    releases: float | None
    moved_bytes: float | None
    why: str = ""


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """One repository on one edge, a month. times: pulls, or releases. moved: bytes; None where it is not known. lines:
    the arithmetic. unknown: what is missing of it."""

    edge: str
    kind: str
    registry: str
    repository: str
    times: float | None
    moved: float | None
    lines: tuple[Line, ...] = ()
    unknown: str = ""
    size_of: str = ""

    @property
    def known(self) -> bool:
        """Whether its cost is."""
        return not self.unknown

    def row(self) -> dict[str, str | int | float | bool]:
        """For a table; empty is not known."""
        return {
            "edge": self.edge,
            "kind": self.kind,
            "registry": self.registry,
            "repository": self.repository,
            "times_per_month": "" if self.times is None else round(self.times, 1),
            "bytes_per_month": "" if self.moved is None else round(self.moved),
            "usd_per_month": round(sum_usd(self.lines), 2) if self.known else "",
            "arithmetic": told(self.lines) if self.known else "",
            "unknown": self.unknown,
            "size_of": self.size_of,
            "sure": all_sure(self.lines) and self.known,
        }


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """All that moves."""

    moved: tuple[Moved, ...]

    @property
    def usd(self) -> float:
        """A month, of all that is known; tiers are of all edges together."""
        return sum_usd(self.lines)

    @property
    def lines(self) -> tuple[Line, ...]:
        """The arithmetic of all that is known, a line for each price."""
        return together(line for each in self.moved if each.known for line in each.lines)

    @property
    def size(self) -> float:
        """Bytes a month, of all that are known."""
        return sum(each.moved or 0.0 for each in self.moved)

    @property
    def unknown(self) -> list[str]:
        """A sentence for each row that adds nothing to the sum."""
        return [
            f"{each.edge}: {each.registry}/{each.repository}: {each.unknown}" for each in self.moved if each.unknown
        ]

    def by_edge(self) -> list[dict[str, str | int | float | bool]]:
        """A row for each edge, the dearest first. ``unknown`` counts its repositories that are in no sum."""
        groups: defaultdict[tuple[str, str], list[Moved]] = defaultdict(list)
        for each in self.moved:
            groups[each.edge, each.kind].append(each)
        rows: list[dict[str, str | int | float | bool]] = []
        for (edge, kind), mine in groups.items():
            known = [each for each in mine if each.known]
            lines = together(line for each in known for line in each.lines)
            rows.append(
                {
                    "edge": edge,
                    "kind": kind,
                    "repositories": len({(each.registry, each.repository) for each in mine}),
                    "times_per_month": _sum([each.times for each in mine], 1),
                    "bytes_per_month": _sum([each.moved for each in mine]),
                    "usd_per_month": round(sum_usd(lines), 2) if known else "",
                    "arithmetic": told(lines) if known else "",
                    "unknown": len(mine) - len(known),
                    "sure": all_sure(lines) and len(known) == len(mine),
                }
            )
        return sorted(rows, key=lambda row: (-float(row["usd_per_month"] or 0), str(row["edge"])))


def _sum(values: Iterable[float | None], digits: int | None = None) -> float | int | str:
    """Of what is known; empty where nothing is."""
    known = [each for each in values if each is not None]
    return round(sum(known), digits) if known else ""


def way_lines(edge: PullEdge, origin: Origin, moved: float, book: PriceBook) -> tuple[Line, ...]:
    """What so many bytes cost from a registry to the nodes of an edge. Raises InputError for a way that there is not,
    and for a price that the book lacks."""
    nodes = Origin(name=edge.name, cloud=cloud_of(edge.region) if edge.region else "other", region=edge.region)
    lines = [Line(moved, way_out(origin, book, to=nodes), origin.region)]
    if edge.through == "public":
        return tuple(lines)
    where = f"report.edges.{edge.name}"
    if nodes.cloud == "other":
        raise InputError(f"{edge.through} is a way of clouds", where=where, do="Give `region`, or `through: public`")
    if edge.through == "nat":
        lines.append(Line(moved, book.price(f"{nodes.cloud}/nat", edge.region), edge.region))
    elif nodes.cloud != "aws" or origin.cloud != "aws" or not at_home(nodes, origin):
        raise InputError(
            f"an endpoint of S3 leads to ECR of its own region, not to {origin.name}",
            where=where,
            do="Say `nat` or `public`: that is the way they take",
        )
    else:
        lines.append(Line(moved, book.price(f"aws/{edge.through}", edge.region), edge.region))
    if edge.zone == "other" and edge.through != "s3-gateway":  # which has no zone
        lines.append(Line(moved, book.price(f"{nodes.cloud}/zones", edge.region), edge.region))
    return tuple(lines)


def transfer(
    edges: Sequence[PullEdge],
    origins: Mapping[str, Origin],
    pulls: Iterable[Pulls],
    copies: Iterable[Copies],
    book: PriceBook,
    *,
    days: float,
) -> Transfer:
    """What moves in a month. origins: the registries by name. days: of which the pulls are. Raises InputError for days
    that cannot be."""
    if days <= 0:
        raise InputError(f"nothing is pulled in {days:g} d")
    moved: list[Moved] = []
    for each in pulls:
        moved += _pulled(edges, origins, each, book, DAYS / days)
    moved += [_copied(origins, each, book) for each in copies]
    return Transfer(moved=tuple(moved))


def _split(edges: Sequence[PullEdge], each: Pulls) -> tuple[list[tuple[PullEdge, int]], str]:
    """The edges that pulls went over, each with its percent of them, and why the rest has none."""
    mine = [edge for edge in edges if edge.registry == each.registry]
    if each.edge:
        named = [edge for edge in mine if edge.name == each.edge]
        return [(edge, 100) for edge in named], "" if named else f"`report.edges` of {each.registry} has no {each.edge}"
    matching = [edge for edge in mine if any(fnmatchcase(each.repository, one) for one in edge.repositories)]
    if not matching:
        return [], "no edge of `report.edges` says who pulls it"
    if len(matching) == 1 and matching[0].share is None:
        return [(matching[0], 100)], ""
    unshared = [edge.name for edge in matching if edge.share is None]
    if unshared:
        return [], f"{len(matching)} edges have it, and {', '.join(unshared)} have no `share`"
    parts = [(edge, edge.share or 0) for edge in matching]
    total = sum(share for _, share in parts)
    if total > 100:
        return [], f"the shares of {', '.join(edge.name for edge, _ in parts)} are {total} % in all"
    return parts, "" if total == 100 else f"{100 - total} % of the pulls are in no edge's `share`"


def _pulled(
    edges: Sequence[PullEdge], origins: Mapping[str, Origin], each: Pulls, book: PriceBook, months: float
) -> list[Moved]:
    if each.pulls is None:
        return [_unknown(each, NOBODY, None, each.why or "how often it was pulled is not known")]
    times = each.pulls * months
    parts, rest = _split(edges, each)
    found = [_over(edge, origins[each.registry], each, times * part / 100, book) for edge, part in parts]
    left = times * (100 - sum(part for _, part in parts)) / 100
    return [*found, _unknown(each, NOBODY, left, rest)] if rest and times else found


def _over(edge: PullEdge, origin: Origin, each: Pulls, times: float, book: PriceBook) -> Moved:
    if each.each_bytes is None and times:
        return _unknown(each, edge.name, times, f"how large it is is not known: {each.size_of}")
    moved = times * (each.each_bytes or 0.0)
    try:
        lines = way_lines(edge, origin, moved, book)
    except InputError as error:
        return _unknown(each, edge.name, times, str(error))
    return Moved(
        edge=edge.name,
        kind="pull",
        registry=each.registry,
        repository=each.repository,
        times=times,
        moved=moved,
        lines=lines,
        size_of=each.size_of,
    )


def _unknown(each: Pulls, edge: str, times: float | None, why: str) -> Moved:
    moved = None if times is None or each.each_bytes is None else times * each.each_bytes
    return Moved(
        edge=edge,
        kind="pull",
        registry=each.registry,
        repository=each.repository,
        times=times,
        moved=moved,
        unknown=why,
        size_of=each.size_of,
    )


def _copied(origins: Mapping[str, Origin], each: Copies, book: PriceBook) -> Moved:
    source, target = origins[each.source], origins[each.registry]
    moved = None
    lines: tuple[Line, ...] = ()
    unknown = each.why
    if each.releases is not None and each.moved_bytes is not None:
        moved = each.releases * each.moved_bytes
        try:
            lines = (Line(moved, way_out(source, book, to=target), source.region),)
        except InputError as error:
            unknown = str(error)
    elif not unknown:
        unknown = "how often it is released, or what a release moves, is not known"
    return Moved(
        edge=f"{each.source} -> {each.registry}",
        kind="copy",
        registry=each.source,
        repository=each.image,
        times=each.releases,
        moved=moved,
        lines=() if unknown else lines,
        unknown=unknown,
    )


__all__ = ["NOBODY", "Copies", "Moved", "Pulls", "Transfer", "transfer", "way_lines"]
