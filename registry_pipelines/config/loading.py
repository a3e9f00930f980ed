"""Read a configuration file: whole, or refused with every problem at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import yaml
from msgspec.structs import replace

from registry_pipelines.config.checks import check, check_version, notes
from registry_pipelines.config.decode import INVALID, Decoder
from registry_pipelines.config.document import Problems, Reader, read_document
from registry_pipelines.config.model import (
    Config,
)
from registry_pipelines.promote.documents import Policy


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
