"""``node serve``: what may come to the node, where the configuration or an option says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec.structs import replace

from registry_pipelines.cli.context import Options
from registry_pipelines.settings import unknown

if TYPE_CHECKING:
    from pathlib import Path

    from registry_pipelines.node.counts import Counts
    from registry_pipelines.node.judging import Gate


@contextmanager
def gate_of(
    options: Options,
    policy: str | None,
    say: Callable[[str], object],
    counts: Counts | None = None,
    hosts: Sequence[Path] = (),
) -> Iterator[Gate | None]:
    """The gate of ``node.gate``, or of ``--policy``; None where neither is told. Raises InputError: there is no
    configuration for it, or no such policy; LocalError."""
    config = options.config() if policy else options.config_if_any()
    if config is None or (policy is None and config.node.gate is None):
        yield None
        return
    from registry_pipelines.chain import Chain
    from registry_pipelines.errors import InputError
    from registry_pipelines.node.model import Gate as Settings

    if policy and policy not in config.policies:
        raise InputError(unknown(policy, config.policies, "policy"), do="Name a policy of the configuration")
    settings = config.node.gate or Settings()
    settings = replace(settings, policy=policy or settings.policy)
    with Chain(config).node_gate(settings, options.state.parent / "lazy" / "gate", say, counts, hosts) as gate:
        audit = " (audit: nothing is refused)" if settings.mode == "audit" else ""
        others = "refused" if settings.unknown == "refuse" else "pulled"
        say(f"the gate of this node is on{audit}: images without an allowing verdict are refused, others' {others}")
        yield gate


__all__ = ["gate_of"]
