"""The channels of an image, in order: what each asks of a release beside its policy. Plain data, and the rule.

A release comes to the first channel by its policy alone; to every other one from the channel before, after as many
hours there as it says, and when the persons that it names have approved it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from registry_pipelines.settings import NAME, TAG, Duration, Names


class Deployed(msgspec.Struct, frozen=True, kw_only=True):
    """Where a release must have run before it comes to a channel, by what was read back and signed there."""

    names: Annotated[tuple[Annotated[str, Names("deploy")], ...], Meta(min_length=1)]
    """Deployments of the same image; all of them."""
    run_for: Duration = Duration()
    """How long at least, from the first look that found it there to a later one; one look is enough unless told."""


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """A channel tag of an image. Written as its name alone it has everything else of the image."""

    name: Annotated[str, TAG]
    """The tag that promotion moves."""
    policy: Annotated[str, Names("policies")] | None = None
    """Policy that a release must satisfy here; the image's unless told."""
    targets: tuple[Annotated[str, Names("targets")], ...] | None = None
    """Targets that releases reach which were promoted to this channel; the image's unless told, `[]` for none."""
    promote: Literal["manual", "auto"] | None = None
    """Who lets an allowed release come here; as the image says unless told."""
    after: Duration | None = None
    """How long a release must have been under the channel before this one, without a break, by the signed records; no
    time unless told."""
    deployed: Deployed | None = None
    """Deployments that must have run a release before it comes here (docs/deployment.md)."""
    approvals: tuple[Annotated[str, NAME], ...] = ()
    """Who must have approved a release (`approve RELEASE --as qa`), for example `[qa]`; all of them."""


def channel_before(order: Sequence[Channel], name: str) -> str:
    """The channel that a release comes from; empty for the first one, and for one that is none of them."""
    names = [each.name for each in order]
    return names[names.index(name) - 1] if name in names[1:] else ""
