"""Read a configuration file: whole, or refused with every problem at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import yaml
from msgspec.structs import replace

from registry_pipelines.config.checks import check, check_version, notes
from registry_pipelines.config.decode import INVALID, Decoder
from registry_pipelines.config.document import Problems, Reader, child, entry_lines, read_document
from registry_pipelines.config.machine import on_this_machine
from registry_pipelines.config.model import Config
from registry_pipelines.config.registries import RegistryPlace, StoreRegistry
from registry_pipelines.promote.documents import Policy


def load(path: Path, env: Mapping[str, str] = os.environ, *, spare: str = "", look: bool = False) -> Config:
    """Read a configuration file.

    env: what ``${NAME}`` may name, and what this machine says of itself (``machine``). Paths in the file are relative
    to its folder; they come back absolute.
    spare: a section whose problems do not refuse the file, for a service that goes on without it: it then has its
    default values, and ``Config.spared`` the problems.
    look: whether the files, folders and keys that it names are here, too, which else each stage says when it needs
    them; see :mod:`registry_pipelines.config.here`. Hosts are not asked.
    Raises ConfigInvalid with every problem as ``file:line: path: message``; secret values are in none of them.
    """
    problems = Problems(path)
    node = read_document(path, problems)
    if node is None:
        problems.add(0, "", "is empty")
        problems.raise_if_any()
        raise AssertionError("raise_if_any raised")
    check_version(node, problems)
    lined = _lined(node, path, env, problems)
    decoder = Decoder(Reader(problems, env), path.absolute().parent)
    config = _decoded(node, path, decoder, problems)
    if spare and problems.noted and all(where.split(".")[0] == spare for where in problems.paths):
        spared = problems.sentences()
        problems = Problems(path)
        node.value = [(key, value) for key, value in node.value if key.value != spare]
        config = _decoded(node, path, Decoder(Reader(problems, env), path.absolute().parent), problems)
        config = config and replace(config, spared=tuple(spared))
    if config is not None:
        config = on_this_machine(config, env, problems)
    seen: list[str] = []
    if look:
        from registry_pipelines.config.here import look_here  # nothing else needs keys

        seen = look_here(node, config, decoder.files, problems)
    problems.raise_if_any(seen)
    if config is None:
        raise AssertionError("an invalid value without a problem")
    return replace(config, notes=(*notes(node, config), *seen), lines=entry_lines(node), lined=lined)


def _lined(node: yaml.Node, path: Path, env: Mapping[str, str], problems: Problems) -> dict[str, tuple[Path, int]]:
    if child(node, "image_lines") is None:
        return {}
    from registry_pipelines.config.image_lines import add_lines  # most have all images in one file

    return add_lines(node, path.absolute().parent, env, problems)


def _decoded(node: yaml.Node, path: Path, decoder: Decoder, problems: Problems) -> Config | None:
    decoded = decoder.value(Config, node, "")
    config = None if decoded is INVALID else _completed(decoded, path)
    check(node, config, decoder.names, problems)
    return config


def _within(folder: Path, registry: RegistryPlace) -> RegistryPlace:
    """A registry whose folder is no field of its own."""
    return registry.within(folder) if isinstance(registry, StoreRegistry) else registry


def _completed(config: Config, path: Path) -> Config:
    """With absolute paths, with the policy that exists unless it is written, and each image with its channels."""
    return replace(
        config,
        path=path.absolute(),
        state=path.absolute().parent / config.state,
        registries={name: _within(path.absolute().parent, each) for name, each in config.registries.items()},
        images={name: image.with_order() for name, image in config.images.items()},
        policies={"default": Policy(name="default"), **config.policies},
    )
