"""The configuration: one YAML file, read whole or refused with every problem at once.

:func:`load` reads it. What it holds are frozen classes: ``model``, ``registries``, ``signing``, ``scanning`` and
``automation`` here, and those that a stage works with (a policy, a retention rule, an upstream) in that stage. A new
field is written down there once, with its meaning:

- ``loading`` is :func:`load`; ``document`` reads YAML with positions and variables, ``decode`` makes the classes by
  their type hints (``fields``)
- ``machine`` is what one machine says of itself in its environment
- ``checks`` holds parts against each other, with ``registry_checks`` and ``image_checks``; ``overlaps`` finds two that
  fill one place, ``times`` knows cron and zones
- ``starter`` writes somebody's first file
- ``schema`` makes the JSON schema and docs/configuration.md

``chain``, the command line and Dagster's project import it; it imports documents of stages, and opens no registry.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from registry_pipelines.build.builder import Build
    from registry_pipelines.collect.rules import RetentionRule
    from registry_pipelines.config.automation import Schedules, Sensors
    from registry_pipelines.config.loading import load
    from registry_pipelines.config.model import Config, Image
    from registry_pipelines.config.registries import (
        DistributionRegistry,
        EcrPublicRegistry,
        EcrRegistry,
        EmbeddedRegistry,
        GarRegistry,
        LayoutRegistry,
        Mirror,
        RegistryPlace,
        RemoteRegistry,
        StoreRegistry,
        Sync,
        Target,
    )
    from registry_pipelines.config.scanning import Advisories
    from registry_pipelines.config.signing import Signing
    from registry_pipelines.config.times import Cron, TimeZone
    from registry_pipelines.mirror.model import Upstream
    from registry_pipelines.promote.documents import AcceptedUnknown, Policy, PolicyException
    from registry_pipelines.scan.report import FindingLimits
    from registry_pipelines.settings import Duration, Secret, Size
    from registry_pipelines.stream.model import Stream

FILE_NAME = "registry-pipelines.yaml"
"""The name that is looked for when none is given."""

ENVIRONMENT_VARIABLE = "REGISTRY_PIPELINES_CONFIG"
"""Names the configuration file when no option does."""

_HOMES = {
    "Build": "build.builder",
    "RetentionRule": "collect.rules",
    "load": "config.loading",
    "Advisories": "config.scanning",
    "Config": "config.model",
    "Image": "config.model",
    "Notify": "config.notify",
    "Schedules": "config.automation",
    "Sensors": "config.automation",
    "Signing": "config.signing",
    "DistributionRegistry": "config.registries",
    "EcrPublicRegistry": "config.clouds",
    "EcrRegistry": "config.clouds",
    "GarRegistry": "config.clouds",
    "RemoteRegistry": "config.registries",
    "EmbeddedRegistry": "config.registries",
    "LayoutRegistry": "config.registries",
    "Mirror": "config.registries",
    "RegistryPlace": "config.registries",
    "StoreRegistry": "config.registries",
    "Sync": "config.registries",
    "Target": "config.registries",
    "Cron": "config.times",
    "TimeZone": "config.times",
    "Upstream": "mirror.model",
    "AcceptedUnknown": "promote.documents",
    "Policy": "promote.documents",
    "PolicyException": "promote.documents",
    "FindingLimits": "scan.report",
    "Duration": "settings",
    "Secret": "settings",
    "Size": "settings",
    "Stream": "stream.model",
}
"""Where each name comes from, below the package; loaded when one is used: a copy without a configuration needs none."""


def __getattr__(name: str) -> Any:
    """The names of ``__all__``, when they are first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"registry_pipelines.{_HOMES[name]}"), name)


__all__ = [
    "AcceptedUnknown",
    "Advisories",
    "Build",
    "Config",
    "Cron",
    "DistributionRegistry",
    "Duration",
    "EcrPublicRegistry",
    "EcrRegistry",
    "EmbeddedRegistry",
    "ENVIRONMENT_VARIABLE",
    "FILE_NAME",
    "Image",
    "FindingLimits",
    "GarRegistry",
    "LayoutRegistry",
    "Mirror",
    "Notify",
    "Policy",
    "PolicyException",
    "RegistryPlace",
    "RemoteRegistry",
    "RetentionRule",
    "Schedules",
    "Secret",
    "Sensors",
    "Signing",
    "Size",
    "StoreRegistry",
    "Stream",
    "Sync",
    "Target",
    "TimeZone",
    "Upstream",
    "load",
]
