"""The chain: every stage over one configuration. The command line and Dagster call only this.

:class:`Chain` has one method per stage. Each is idempotent: called again it says ``changed=False`` and moves no blob.
Evidence is always read from the registry again; a chain remembers nothing but open connections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from registry_pipelines.chain.result import StageResult
    from registry_pipelines.chain.stages import Chain

__all__ = ["Chain", "StageResult"]


def __getattr__(name: str) -> Any:
    """The two names above, when they are first used: a plain copy needs :mod:`~registry_pipelines.chain.places` only,
    and starts in a third of the time without every stage's libraries."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from registry_pipelines.chain import stages

    return getattr(stages, name)
