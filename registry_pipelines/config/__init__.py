"""The configuration: one YAML file, read whole or refused with every problem at once.

:func:`load` reads it. What it holds are frozen classes: ``model`` and ``registries`` here, and those that a stage works
with (a policy, a retention rule, an upstream) in that stage. A new field is written down there once, with its meaning:

- ``document`` reads YAML with positions and variables, ``decode`` makes the classes by their type hints (``fields``)
- ``checks`` holds parts against each other, ``overlaps`` finds two that fill one place, ``times`` knows cron and zones
- ``schema`` makes the JSON schema and docs/configuration.md

``chain``, the command line and Dagster's project import it; it imports documents of stages, and opens no registry.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import yaml
from msgspec.structs import replace

from registry_pipelines.build.builder import Build
from registry_pipelines.collect.rules import RetentionRule
from registry_pipelines.config.checks import check, check_version, notes
from registry_pipelines.config.decode import INVALID, Decoder
from registry_pipelines.config.document import Problems, Reader, read_document
from registry_pipelines.config.model import (
    Advisories,
    Config,
    Image,
    Schedules,
    Sensors,
    Signing,
)
from registry_pipelines.config.registries import (
    DistributionRegistry,
    EmbeddedRegistry,
    LayoutRegistry,
    Mirror,
    RegistryPlace,
    Sync,
    Target,
)
from registry_pipelines.config.times import Cron, TimeZone
from registry_pipelines.mirror.model import Upstream
from registry_pipelines.promote.documents import AcceptedUnknown, Policy, PolicyException
from registry_pipelines.scan.report import FindingLimits
from registry_pipelines.settings import Duration, Secret

FILE_NAME = "registry-pipelines.yaml"
"""The name that is looked for when none is given."""

ENVIRONMENT_VARIABLE = "REGISTRY_PIPELINES_CONFIG"
"""Names the configuration file when no option does."""


def load(path: Path, env: Mapping[str, str] = os.environ, *, spare: str = "") -> Config:
    """Read a configuration file.

    env: what ``${NAME}`` may name. Paths in the file are relative to its folder; they come back absolute.
    spare: a section whose problems do not refuse the file, for a service that goes on without it: it then has its
    default values, and ``Config.spared`` the problems.
    Raises ConfigInvalid with every problem as ``file:line: path: message``; secret values are in none of them.
    Not checked here: that files, hosts and keys it names exist; each stage says so when it needs them.
    """
    problems = Problems(path)
    node = read_document(path, problems)
    if node is None:
        problems.add(0, "", "is empty")
        problems.raise_if_any()
        raise AssertionError("raise_if_any raised")
    check_version(node, problems)
    config = _decoded(node, path, env, problems)
    if spare and problems.noted and all(where.split(".")[0] == spare for where in problems.paths):
        spared = problems.sentences()
        problems = Problems(path)
        node.value = [(key, value) for key, value in node.value if key.value != spare]
        config = _decoded(node, path, env, problems)
        config = config and replace(config, spared=tuple(spared))
    problems.raise_if_any()
    if config is None:
        raise AssertionError("an invalid value without a problem")
    return replace(config, notes=tuple(notes(node, config)))


def _decoded(node: yaml.Node, path: Path, env: Mapping[str, str], problems: Problems) -> Config | None:
    decoder = Decoder(Reader(problems, env), path.absolute().parent)
    decoded = decoder.value(Config, node, "")
    config = None if decoded is INVALID else _completed(decoded, path)
    check(node, config, decoder.names, problems)
    return config


def _completed(config: Config, path: Path) -> Config:
    """With absolute paths, and with the policy that exists unless it is written."""
    return replace(
        config,
        path=path.absolute(),
        state=path.absolute().parent / config.state,
        policies={"default": Policy(name="default"), **config.policies},
    )


__all__ = [
    "AcceptedUnknown",
    "Advisories",
    "Build",
    "Config",
    "Cron",
    "DistributionRegistry",
    "Duration",
    "EmbeddedRegistry",
    "ENVIRONMENT_VARIABLE",
    "FILE_NAME",
    "Image",
    "LayoutRegistry",
    "FindingLimits",
    "Mirror",
    "Policy",
    "PolicyException",
    "RegistryPlace",
    "RetentionRule",
    "Schedules",
    "Secret",
    "Sensors",
    "Signing",
    "Sync",
    "Target",
    "TimeZone",
    "Upstream",
    "load",
]
