"""Parts of a configuration in a file of their own, which nothing acts by: rules that are tried before they count."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import yaml

from registry_pipelines.collect.rules import RetentionRule
from registry_pipelines.config.decode import INVALID, Decoder
from registry_pipelines.config.document import Problems, Reader, line_of, read_document


def load_rules(path: Path, env: Mapping[str, str] = os.environ) -> tuple[RetentionRule, ...]:
    """Retention rules of a file that has nothing but ``retention:``, as a configuration has it. Raises ConfigInvalid
    with every problem."""
    problems = Problems(path)
    node = read_document(path, problems)
    found: tuple[RetentionRule, ...] | None = None
    reader = Reader(problems, env)
    decoder = Decoder(reader, path.absolute().parent)
    if isinstance(node, yaml.MappingNode):
        for name, key, value in reader.entries(node, ""):
            if name == "retention":
                decoded = decoder.value(tuple[RetentionRule, ...], value, "retention")
                found = None if decoded is INVALID else decoded
            else:
                problems.add(line_of(key), name, "only `retention` is read here")
    if found is None and not problems.noted:
        problems.add(0, "", "has no `retention`: write rules below it, as in a configuration")
    problems.raise_if_any()
    assert found is not None  # noqa: S101 - else there was a problem
    return found


__all__ = ["load_rules"]
