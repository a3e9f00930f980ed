"""Where nodes should pull from, with the arithmetic: a row for each way, what it costs a month, and why.

What counts is bytes over borders. Layers of one image cross once for each pull by a node that lacks them; a replica
crosses once for each release. So a replica in the nodes' own region and cloud is cheapest as soon as an image is pulled
more often than it is released, and pulling across clouds (EKS straight from Artifact Registry) never is: each pull pays
the one cloud's way out and mostly the other's NAT, and a node's start waits for the distance.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from registry_pipelines.errors import InputError
from registry_pipelines.report.arithmetic import DAYS, Line, all_sure, sum_usd, told
from registry_pipelines.report.prices import Price, PriceBook

Cloud = Literal["aws", "gcp", "other"]


class Nodes(msgspec.Struct, frozen=True, kw_only=True):
    """Who pulls. cloud: ``aws`` or ``gcp``. pulls_per_day: by nodes that do not have the image yet, over all nodes."""

    cloud: Cloud
    region: str
    pulls_per_day: float
    private: bool = True
    """In subnets without public addresses: through NAT, where no endpoint leads past it."""


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where the image is now. name: as shown."""

    name: str
    cloud: Cloud
    region: str = ""


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """A way of pulling. advised: the one to take. never: a way not to take, whatever it costs."""

    name: str
    lines: tuple[Line, ...]
    why: str
    never: bool = False
    advised: bool = False

    @property
    def usd(self) -> float:
        """A month."""
        return sum_usd(self.lines)

    @property
    def sure(self) -> bool:
        """Whether every price in it is sure."""
        return all_sure(self.lines)

    def arithmetic(self) -> str:
        """``3526.4 GB x 0.12 (gcp/internet) + 3526.4 GB x 0.045 (aws/nat) = 581.86``."""
        return told(self.lines)

    def row(self) -> dict[str, str | float | bool]:
        """For tables and JSON."""
        verdict = "never" if self.never else "take this" if self.advised else ""
        return {
            "way": self.name,
            "usd_per_month": round(self.usd, 2),
            "verdict": verdict,
            "arithmetic": self.arithmetic(),
            "why": self.why,
            "sure": self.sure,
        }


def advise(
    nodes: Nodes, origin: Origin, book: PriceBook, *, image_bytes: int, releases_per_month: float, kept: int = 10
) -> list[Way]:
    """The ways for these nodes, the advised one first, the rest by cost. image_bytes: compressed, of the nodes'
    platform. kept: releases that a replica keeps. Raises InputError for a price that the book lacks, and for figures
    that cannot be."""
    if image_bytes <= 0 or nodes.pulls_per_day < 0 or releases_per_month < 0 or nodes.cloud not in ("aws", "gcp"):
        raise InputError("sizes, pulls and releases are 0 or more, and nodes are in aws or gcp")
    pulled = image_bytes * nodes.pulls_per_day * DAYS
    moved = image_bytes * releases_per_month
    held = float(image_bytes) * kept
    ways = [_straight(nodes, origin, book, pulled)]
    if not at_home(nodes, origin):
        ways.append(_replica(nodes, origin, book, pulled, moved, held, past_nat=True))
        if nodes.private and nodes.cloud == "aws":
            ways.append(_replica(nodes, origin, book, pulled, moved, held, past_nat=False))
    elif nodes.private and nodes.cloud == "aws":
        ways.append(_at_home_by(nodes, origin, book, pulled))
    best = min((way for way in ways if not way.never), key=lambda way: way.usd)
    ways = [msgspec.structs.replace(way, advised=way is best) for way in ways]
    return sorted(ways, key=lambda way: (not way.advised, way.never, way.usd))


def at_home(nodes: Nodes | Origin, origin: Origin) -> bool:
    """In one cloud, and in one region or in the multi-region that holds it."""
    return nodes.cloud == origin.cloud and (
        nodes.region == origin.region or (origin.cloud == "gcp" and nodes.region.startswith(f"{origin.region}-"))
    )


def way_out(origin: Origin, book: PriceBook, *, to: Nodes | Origin) -> Price:
    """What a GB costs from the origin to the region of nodes, or of another registry. Raises InputError for a price
    that the book lacks."""
    if origin.cloud == "other":
        return book.price("other/out")
    if origin.cloud != to.cloud:
        return book.price(f"{origin.cloud}/internet", origin.region)
    if at_home(to, origin):
        return book.price(f"{origin.cloud}/same-region", origin.region)
    return book.between(origin.cloud, origin.region, to.region)


def _straight(nodes: Nodes, origin: Origin, book: PriceBook, pulled: float) -> Way:
    lines = [Line(pulled, way_out(origin, book, to=nodes), origin.region)]
    if nodes.private and not (nodes.cloud == origin.cloud == "gcp"):  # Private Google Access leads past Cloud NAT
        lines.append(Line(pulled, book.price(f"{nodes.cloud}/nat", nodes.region), nodes.region))
    across = origin.cloud not in (nodes.cloud, "other")
    if across:
        why = "each pull leaves one cloud by its dearest way, and the other's nodes wait for the distance"
    elif at_home(nodes, origin):
        why = "it is in the nodes' region already" + (
            ", and NAT bills every layer" if nodes.private and nodes.cloud == "aws" else ""
        )
    else:
        why = "each pull crosses regions" if origin.cloud != "other" else "each pull depends on a registry of others"
    return Way(name=f"straight from {origin.name}", lines=tuple(lines), why=why, never=across)


def _replica(
    nodes: Nodes, origin: Origin, book: PriceBook, pulled: float, moved: float, held: float, *, past_nat: bool
) -> Way:
    registry = "ecr" if nodes.cloud == "aws" else "gar"
    way_in = book.price("aws/s3-gateway" if nodes.cloud == "aws" else "gcp/same-region")
    lines = (
        Line(moved, way_out(origin, book, to=nodes), origin.region),
        Line(held, book.price(f"{nodes.cloud}/{registry}/storage", nodes.region), nodes.region),
        Line(pulled, way_in if past_nat else book.price(f"{nodes.cloud}/nat", nodes.region), nodes.region),
    )
    product = "ECR" if nodes.cloud == "aws" else "Artifact Registry"
    by = " by the S3 gateway endpoint" if nodes.cloud == "aws" else ""
    if past_nat:
        return Way(
            name=f"a replica in {product}, {nodes.region}{by}",
            lines=lines,
            why="crosses once for each release; pulls stay in the region",
        )
    return Way(
        name=f"a replica in {product}, {nodes.region}, through NAT",
        lines=lines,
        why="without the S3 gateway endpoint, which is free, NAT bills every layer",
    )


def _at_home_by(nodes: Nodes, origin: Origin, book: PriceBook, pulled: float) -> Way:
    return Way(
        name=f"{origin.name} by the S3 gateway endpoint",
        lines=(Line(pulled, book.price("aws/s3-gateway", nodes.region), nodes.region),),
        why="layers come from S3, past NAT; ecr.api and ecr.dkr carry the small rest",
    )


def cloud_of(region: str) -> Cloud:
    """The cloud that a region is of, by its form: ``eu-west-1`` is of AWS, ``europe-west1`` of Google. Raises
    InputError."""
    parts = region.split("-")
    if len(parts) >= 3 and parts[-1].isdecimal() and len(parts[0]) == 2:
        return "aws"
    if len(parts) == 2 and parts[1][-1:].isdecimal():
        return "gcp"
    raise InputError(
        f"{region!r} is no region of AWS or Google Cloud", do="Write for example eu-west-1 or europe-west1"
    )
