"""In which order nodes ask registries, now and when one more is gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from registry_pipelines.recover.failover.health import State


def order(names: Sequence[str], states: Mapping[str, State]) -> tuple[str, ...]:
    """Those that can serve first, each part as the configuration has it. One that is down stays, last: a look may be
    wrong, and a node that found nothing elsewhere loses nothing there."""
    return tuple(sorted(names, key=lambda name: not states[name].up))


def without_each(asked: Sequence[str], states: Mapping[str, State]) -> dict[str, tuple[str, ...]]:
    """By each registry that can serve: those that would be left in their order, were it gone."""
    up = [name for name in asked if states[name].up]
    return {gone: tuple(name for name in up if name != gone) for gone in up}
