"""Whatever decodes into a class of ours makes it ready first: see ``oci/decoding.py``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
DECODERS = {"decode", "convert", "Decoder"}


def typed_decodes(source: str) -> Iterator[tuple[int, bool]]:
    """Line of each use of msgspec that names a type, and whether that is made ready."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("msgspec"):
            yield from ((node.lineno, False) for alias in node.names if alias.name in DECODERS)
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name = ast.unparse(node.func)
        if name.startswith("msgspec.") and node.func.attr in DECODERS:
            kinds = [word.value for word in node.keywords if word.arg == "type"]
            kinds += node.args if node.func.attr == "Decoder" else node.args[1:]
            for kind in kinds:
                yield node.lineno, isinstance(kind, ast.Call) and ast.unparse(kind.func) == "ready"


def test_classes_are_made_ready_before_they_are_decoded() -> None:
    uses = [
        (f"{path.relative_to(ROOT)}:{line}", ready)
        for folder in ("registry_pipelines", "dagster_project")
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "decoding.py"
        for line, ready in typed_decodes(path.read_text())
    ]
    assert len(uses) > 10
    assert [where for where, ready in uses if not ready] == []
