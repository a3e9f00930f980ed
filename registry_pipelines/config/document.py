"""YAML with positions: nodes keep their lines, duplicate keys are found, ``${VARIABLE}`` is replaced in values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec
import yaml
from yaml.composer import Composer

from registry_pipelines.errors import ConfigInvalid

MAX_CONFIG_FILE_BYTES = 1024 * 1024
"""Bytes of a configuration file that are read. A fleet of 3,000 images needs about half of it."""

MAX_VALUES = 200_000
"""Values that are looked at, aliases counted each time they are used: a small file cannot unfold into a huge one."""

_VARIABLE = re.compile(r"\$(?:\$(?=\{)|\{([^}]*)\})")
_VARIABLE_BODY = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?\Z", re.DOTALL)
_TAG = "tag:yaml.org,2002:"


class _Loader(Composer, yaml.CSafeLoader):
    """libyaml's parser with PyYAML's own composer: 20 ms for 200 images where PyYAML alone takes 135. libyaml's own
    composer takes 17, and ends the process over half a million brackets."""

    def __init__(self, stream: str) -> None:
        yaml.CSafeLoader.__init__(self, stream)
        Composer.__init__(self)


class Problems(msgspec.Struct):
    """Collects every problem as ``file:line: path: message``."""

    file: Path
    noted: list[tuple[int, str]] = msgspec.field(default_factory=list)
    paths: set[str] = msgspec.field(default_factory=set)
    """What the problems are about."""

    def add(self, line: int, path: str, message: str) -> None:
        """Note a problem. line: 1-based, 0 for the whole file."""
        where = f"{self.file}:{line}: " if line else f"{self.file}: "
        text = where + (f"{path}: {message}" if path else message)
        if (line, text) not in self.noted:
            self.noted.append((line, text))
            self.paths.add(path)

    def sentences(self) -> list[str]:
        """All of them in the file's order."""
        return [text for _, text in sorted(self.noted)]

    def raise_if_any(self, notes: Iterable[str] = ()) -> None:
        """Raise ConfigInvalid with all problems in the file's order. notes: what else is said then."""
        if self.noted:
            error = ConfigInvalid(self.sentences())
            for note in notes:
                error.add_note(f"note: {note}")
            raise error


class Scalar(msgspec.Struct, frozen=True):
    """A scalar after replacement. tag: ``str``, ``int``, ``float``, ``bool``, ``null``, ``timestamp``."""

    text: str
    tag: str
    has_variable: bool


def read_document(path: Path, problems: Problems) -> yaml.Node | None:
    """The file's root node; None for an empty file. Notes a problem for what cannot be read, and raises then."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_CONFIG_FILE_BYTES + 1)
    except OSError as error:
        problems.add(0, "", f"cannot be read: {error.strerror or error}")
        problems.raise_if_any()
    if len(raw) > MAX_CONFIG_FILE_BYTES:
        problems.add(0, "", f"is larger than {MAX_CONFIG_FILE_BYTES} bytes")
        problems.raise_if_any()
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        problems.add(raw[: error.start].count(b"\n") + 1, "", "is not UTF-8 text")
        problems.raise_if_any()
    try:
        return yaml.compose(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError):
        return _composed_slowly(text, problems)


def _composed_slowly(text: str, problems: Problems) -> yaml.Node | None:
    """By PyYAML alone, which says more plainly what is wrong, and where."""
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.reader.ReaderError as error:
        problems.add(text[: error.position].count("\n") + 1, "", "holds a character that YAML does not permit")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = " ".join(part for part in (error.context, error.problem) if part)
        problems.add(mark.line + 1 if mark else 0, "", f"is not valid YAML: {said}")
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        problems.add(0, "", f"is not valid YAML: {'nested too deeply' if isinstance(error, RecursionError) else error}")
    problems.raise_if_any()
    return None


def line_of(node: yaml.Node) -> int:
    """The 1-based line a node starts on."""
    return int(node.start_mark.line) + 1


def entry_lines(root: yaml.Node) -> dict[str, int]:
    """The line of each named entry of a section that has such, as ``mirrors.base``."""
    sections = root.value if isinstance(root, yaml.MappingNode) else []
    return {
        f"{section.value}.{key.value}": line_of(key)
        for section, entries in sections
        if isinstance(entries, yaml.MappingNode)
        for key, _ in entries.value
    }


def child(node: yaml.Node | None, name: str) -> yaml.Node | None:
    """The value of a key of a mapping; None where there is none."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value == name:
                found: yaml.Node = value
                return found
    return None


def line_at(root: yaml.Node, path: str) -> int:
    """The line of the deepest part of a path (``a.b[0].c``) that exists."""
    node = root
    for part in path.replace("[", ".[").split("."):
        deeper = _item(node, part) if part.startswith("[") else child(node, part)
        if deeper is None:
            break
        node = deeper
    return line_of(node)


def _item(node: yaml.Node, part: str) -> yaml.Node | None:
    if isinstance(node, yaml.SequenceNode):
        found: yaml.Node = node.value[int(part.strip("[]"))]
        return found
    return None


class Reader:
    """Looks at nodes, counts them, and replaces variables. ``environment``: what ``${NAME}`` may name."""

    def __init__(self, problems: Problems, environment: Mapping[str, str]) -> None:
        self.problems = problems
        self._environment = environment
        self._seen = 0
        self._resolver = yaml.resolver.Resolver()

    def count(self, node: yaml.Node) -> None:
        """Count a value; raises ConfigInvalid past the limit."""
        self._seen += 1
        if self._seen > MAX_VALUES:
            self.problems.add(line_of(node), "", f"unfolds into more than {MAX_VALUES} values")
            self.problems.raise_if_any()

    def entries(self, node: yaml.MappingNode, path: str) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        """Key, key node and value node of a mapping, merge keys (``<<``) unfolded; notes duplicate and odd keys."""
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            self.count(key)
            if key.tag == _TAG + "merge":
                self._merge(value, path, merged, depth=0)
            elif not isinstance(key, yaml.ScalarNode):
                self.problems.add(line_of(key), path, "a key must be plain text")
            elif key.value in own:
                first = line_of(own[key.value][0])
                self.problems.add(line_of(key), path, f"`{key.value}` is written twice; first in line {first}")
            else:
                own[key.value] = (key, value)
        for name, (key, value) in {**merged, **own}.items():
            yield name, key, value

    def _merge(self, node: yaml.Node, path: str, into: dict[str, tuple[yaml.Node, yaml.Node]], *, depth: int) -> None:
        self.count(node)
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for part in parts:
            if not isinstance(part, yaml.MappingNode) or depth > 8:
                self.problems.add(line_of(node), path, "`<<` takes a mapping, or a list of mappings, by their anchors")
                continue
            for key, value in part.value:
                if key.tag == _TAG + "merge":
                    self._merge(value, path, into, depth=depth + 1)
                elif isinstance(key, yaml.ScalarNode):
                    into.setdefault(key.value, (key, value))

    def scalar(self, node: yaml.ScalarNode, path: str) -> Scalar:
        """The text after ``${NAME}``, ``${NAME:-default}`` and ``$${`` (a plain ``${``) are replaced."""
        if "${" not in node.value:
            return Scalar(node.value, node.tag.removeprefix(_TAG), has_variable=False)
        has_variable = False

        def replace(match: re.Match[str]) -> str:
            nonlocal has_variable
            if match[1] is None:
                return "$"
            has_variable = True
            return self._variable(match[1], node, path)

        text = _VARIABLE.sub(replace, node.value)
        if has_variable:
            tag = self._resolver.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
            return Scalar(text, str(tag).removeprefix(_TAG), has_variable=True)
        return Scalar(text, node.tag.removeprefix(_TAG), has_variable=False)

    def _variable(self, body: str, node: yaml.Node, path: str) -> str:
        match = _VARIABLE_BODY.match(body)
        if not match:
            self.problems.add(line_of(node), path, "after ${ stands no variable name; write $${ for a plain ${")
            return ""
        value = self._environment.get(match[1])
        if value is not None:
            return value
        if match[2] is not None:
            return match[2]
        self.problems.add(line_of(node), path, f"the environment variable {match[1]} is not set")
        return ""
