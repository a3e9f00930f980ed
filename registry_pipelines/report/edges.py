"""What the configuration says of who pulls from where: an edge from a registry to nodes, and the way of its layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from registry_pipelines.errors import InputError
from registry_pipelines.settings import GLOB, EntryName, Names

Through = Literal["public", "nat", "s3-gateway", "interface-endpoint"]


class PullEdge(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nodes that pull from a registry, and the way that layers take to them. Nothing says that but you: counts of pulls
    tell how many there were, and not who pulled (docs/cost.md)."""

    name: EntryName
    registry: Annotated[str, Names("registries")]
    """Registry that they pull from."""
    through: Through
    """The way of the layers: `public` for nodes with public addresses, or outside of clouds; `nat`; `s3-gateway`, the
    gateway endpoint of the registry's own region; `interface-endpoint`, of S3. Both endpoints are AWS's."""
    region: str = ""
    """Region of the nodes, as `eu-west-1` or `europe-west1`. Unless told they are outside of both clouds."""
    zone: Literal["same", "other"] = "same"
    """`other`: the NAT gateway or the endpoint is in another zone than the nodes."""
    repositories: tuple[Annotated[str, GLOB], ...] = ("*",)
    """Patterns of the repositories that they pull."""
    share: Annotated[int, Meta(ge=0, le=100)] | None = None
    """Their part of the pulls of a repository, in percent. Needed where several edges of a registry have it; what is
    over is told as unknown."""


def problems(edge: PullEdge) -> Iterator[tuple[str, str]]:
    """What does not go together in an edge: the field, and what is wrong with it."""
    from registry_pipelines.report.advice import cloud_of  # of few configurations, and every command reads one

    try:
        cloud = cloud_of(edge.region) if edge.region else "other"
    except InputError as error:
        yield "region", f"{error.what}; write for example eu-west-1 or europe-west1"
        return
    if cloud == "other" and edge.through != "public":
        yield "through", f"`{edge.through}` is a way within a cloud: give `region`, or write `public`"
    elif cloud != "aws" and edge.through in ("s3-gateway", "interface-endpoint"):
        yield "through", f"`{edge.through}` is AWS's, and {edge.region} is no region of AWS"
    if edge.zone == "other" and edge.through in ("public", "s3-gateway"):
        yield "zone", f"`{edge.through}` has no zone"


__all__ = ["PullEdge", "Through", "problems"]
