"""The chain: every stage over one configuration. The command line and Dagster call only this.

:class:`Chain` (``stages``) has one method per stage. Each is idempotent: called again it says ``changed=False`` and
moves no blob. Evidence is always read from the registry again; a chain remembers nothing but open connections.

What a method does over the configuration stands in the module named as its stage: ``build``, ``scan``, ``sign``,
``promote`` (with the verdict), ``replicate``, ``mirror``, ``sync``, ``collect``; ``releases`` finds what they act on,
``tagging`` sets tags that a person wants, ``differences`` compares two images, ``outcome`` says where a release is in
the end. They share a ``session`` (configuration, open registries of ``places``, ``keys``) and answer with ``result``.
``serving`` runs the embedded registries of a configuration.

The rules themselves are the stages' rooms'; nothing here decides. Only ``cli`` and ``dagster_project`` import this.
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
