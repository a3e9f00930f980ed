"""What the configuration says of fail-over."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from registry_pipelines.recover.failover.drill.settings import FailoverDrill, FailoverObjectives
from registry_pipelines.settings import (
    CHECK_ID,
    DNS_NAME,
    GLOB,
    GOOGLE_PROJECT,
    HEALTH_PATH,
    HOST,
    PREFIX,
    REPOSITORY_DIGEST,
    TAG,
    ZONE,
    Duration,
    EntryName,
    Names,
    Short,
)

DIAL_S = 2
"""Seconds to connect to a registry that is not the last."""

Provider = Literal["route53", "cloud-dns", "text"]


class Stand(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A registry that has the images."""

    registry: Annotated[str, Names("registries")]
    """Registry of the configuration."""
    prefix: Annotated[str, PREFIX] = ""
    """Put in front of a repository as the first registry has it, for images that no target brings there: replicas by
    ECR itself have none, syncs and mirrors may."""
    leads_to: Annotated[str, HOST] | None = None
    """Where `dns.name` leads for this registry in place of its own host: a load balancer or proxy in front of it, which
    has a certificate of that name."""
    health_check: Annotated[str, CHECK_ID] = ""
    """Id of its health check at Route 53, once it is made."""


class Health(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a registry is asked whether it can serve: the API with our account, the certificate, and a known image."""

    timeout: Duration = Duration(seconds=5)
    """How long one look may take in all, from the name server on. One that takes a connection and says nothing fails
    then."""
    failures: Annotated[int, Meta(ge=1, le=10)] = 3
    """Looks in a row that must fail until it counts as down; one that answers ends it."""
    pause: Duration = Duration(seconds=2)
    """Between two looks."""
    digest: Annotated[str, REPOSITORY_DIGEST] = ""
    """`REPOSITORY@sha256:...` that each of them must have, the repository as the first has it; none unless told."""
    certificate: Duration = Duration(days=14)
    """A certificate that ends sooner is told of; one that is over fails."""


class Dns(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A name of our own that leads to the first registry that can serve (docs/failover.md says what it cannot do). It
    is printed and written, never set."""

    name: Annotated[str, DNS_NAME]
    """The name in workloads' references, as `images.example.com`."""
    provider: Provider
    """Whose form: `route53` (a change batch), `cloud-dns` (a record of its API), `text` (a line of a zone file)."""
    zone: Annotated[str, ZONE]
    """Route 53: id of the hosted zone; Cloud DNS: name of the managed zone; text: the zone's domain."""
    project: Annotated[str, GOOGLE_PROJECT] | None = None
    """Of Cloud DNS."""
    ttl: Duration = Duration(seconds=60)
    """How long resolvers may keep an answer: what a change takes at least."""
    health_path: Annotated[str, HEALTH_PATH] = ""
    """Path that answers 2xx or 3xx without an account while the registry can serve, for Route 53's own health checks;
    it takes a registry that wants an account for down at `/v2/`."""


class Failover(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Registries that stand in for each other (docs/failover.md)."""

    name: EntryName
    registries: Annotated[tuple[Annotated[Stand, Short("registry")], ...], Meta(min_length=2)]
    """The first is asked first while it can serve, then the others in this order."""
    images: tuple[Annotated[str, GLOB], ...] = ()
    """Names or patterns of our images; all that the first registry has unless told."""
    mirrors: tuple[Annotated[str, Names("mirrors")], ...] = ()
    """Mirrors to the first registry, whose foreign images the others have as well."""
    names: tuple[Annotated[str, HOST], ...] = ()
    """Further hosts by which workloads name our images, beside the first registry's own and `dns.name`."""
    channels: tuple[Annotated[str, TAG], ...] = ()
    """Channel tags whose releases must have a second place; those of all channels unless told."""
    dial_timeout: Duration = Duration(seconds=DIAL_S)
    """How long containerd from 2.1 on tries to connect to a registry that is not the last, for each request; by itself
    it takes 30 s. `0s` leaves it so. Other programs cannot be told."""
    health: Health = Health()
    """When a registry counts as down."""
    dns: Dns | None = None
    """A name of our own."""
    objectives: FailoverObjectives = FailoverObjectives()
    """What is promised of clients; drills hold them against it."""
    drill: FailoverDrill = FailoverDrill()
    """How drills are done."""

    @property
    def dial_s(self) -> int:
        """``dial_timeout`` in whole seconds, as the configuration must have it."""
        return int(self.dial_timeout.total_seconds())

    @property
    def stands(self) -> dict[str, Stand]:
        """By the registry's name, in order."""
        return {each.registry: each for each in self.registries}


__all__ = ["DIAL_S", "Dns", "Failover", "Health", "Provider", "Stand"]
