"""Images that stand in a file each: ``defs.yaml`` in folders below ``image_lines``, as Dagster's ``dg scaffold`` writes
them. They are read as if they stood below ``images``; nobody needs Dagster for that.

    type: dagster_project.components.ImageLine
    attributes:
      name: forecaster
      registry: us-east-1
      repository: ml/forecaster
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from registry_pipelines.config.decode import Decoder
from registry_pipelines.config.document import Problems, Reader, child, line_of, read_document
from registry_pipelines.config.model import Image

TYPE = "dagster_project.components.ImageLine"
FILE = "defs.yaml"
MAX_FILES = 10_000
FIELD = "image_lines"


def add_lines(root: yaml.Node, folder: Path, env: Mapping[str, str], problems: Problems) -> dict[str, tuple[Path, int]]:
    """Add the images of the files to those of a configuration; file and line of each. folder: the configuration's.
    What does not go together with the rest is a problem at ``image_lines``; raises ConfigInvalid for what is wrong in
    one of the files."""
    named = child(root, FIELD)
    if not isinstance(root, yaml.MappingNode) or not isinstance(named, yaml.ScalarNode):
        return {}
    images = child(root, "images")
    if images is None:
        images = yaml.MappingNode("tag:yaml.org,2002:map", [], named.start_mark, named.end_mark)
        root.value.append((_scalar("images", named), images))
    found: dict[str, tuple[Path, int]] = {}
    if not isinstance(images, yaml.MappingNode):
        return found
    own = {key.value for key, _ in images.value if isinstance(key, yaml.ScalarNode)}
    for path in _files(folder / named.value, problems, line_of(named)):
        for name, attributes, line in _line(path, env):
            if name in own:
                where = f"; first in {found[name][0]}" if name in found else ""
                problems.add(line_of(named), FIELD, f"{path} has the image {name}, which is there already{where}")
                continue
            own.add(name)
            found[name] = (path, line)
            images.value.append((_scalar(name, named), _moved(attributes, named)))
    return found


def _files(folder: Path, problems: Problems, line: int) -> list[Path]:
    if not folder.is_dir():
        problems.add(line, FIELD, f"there is no folder {folder}")
        return []
    found = sorted(folder.rglob(FILE))
    if len(found) > MAX_FILES:
        problems.add(line, FIELD, f"{folder} has more than {MAX_FILES} files {FILE}")
    return found[:MAX_FILES]


def _line(path: Path, env: Mapping[str, str]) -> Iterator[tuple[str, yaml.MappingNode, int]]:
    """The images of a file, each with its attributes but the name. Other components are left alone. Raises
    ConfigInvalid."""
    problems = Problems(path)
    for document in _documents(path, problems):
        kind = child(document, "type")
        if not isinstance(kind, yaml.ScalarNode) or kind.value != TYPE:
            continue
        attributes = child(document, "attributes")
        name = child(attributes, "name")
        if not isinstance(attributes, yaml.MappingNode) or not isinstance(name, yaml.ScalarNode):
            problems.add(line_of(document), "attributes", "`name` is missing: an image of ours needs one")
            problems.raise_if_any()
            continue
        rest = [(key, value) for key, value in attributes.value if key.value != "name"]
        image = yaml.MappingNode(attributes.tag, rest, attributes.start_mark, attributes.end_mark)
        for scalar in _scalars(image):
            if "{{" in scalar.value:
                problems.add(line_of(scalar), "attributes", "templates of Dagster are not read here; write the value")
        Decoder(Reader(problems, env), path.parent).value(Image, image, "attributes", key=name.value)
        problems.raise_if_any()
        yield name.value, image, line_of(document)


def _documents(path: Path, problems: Problems) -> list[yaml.Node]:
    """The file's components; one file may have several, with ``---`` between them."""
    try:
        text = path.read_bytes().decode()
        if "\n---" in text:
            return [each for each in yaml.compose_all(text, Loader=yaml.CSafeLoader) if each is not None]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError):
        pass  # the reader below says what is wrong
    node = read_document(path, problems)
    return [node] if node is not None else []


def _scalars(node: yaml.Node, depth: int = 0) -> Iterator[yaml.ScalarNode]:
    if isinstance(node, yaml.ScalarNode):
        yield node
    elif depth < 50:
        parts = node.value if isinstance(node, yaml.SequenceNode) else [each for pair in node.value for each in pair]
        for part in parts:
            yield from _scalars(part, depth + 1)


def _scalar(text: str, near: yaml.Node) -> yaml.ScalarNode:
    return yaml.ScalarNode("tag:yaml.org,2002:str", text, near.start_mark, near.end_mark)


def _moved(node: Any, near: yaml.Node) -> Any:
    """The same at the line of ``image_lines``: what is wrong about it together with the rest is told there."""
    if isinstance(node, yaml.ScalarNode):
        return yaml.ScalarNode(node.tag, node.value, near.start_mark, near.end_mark, node.style)
    if isinstance(node, yaml.SequenceNode):
        return yaml.SequenceNode(node.tag, [_moved(each, near) for each in node.value], near.start_mark, near.end_mark)
    pairs = [(_moved(key, near), _moved(value, near)) for key, value in node.value]
    return yaml.MappingNode(node.tag, pairs, near.start_mark, near.end_mark)


__all__ = ["TYPE", "add_lines"]
