"""The picture of imports in docs/architecture.md: which room imports which, from the code itself.

tests/pages.py writes it. Rooms are listed from the top floor down, as the contracts of ``.importlinter``
have them, so every dot stands right of the diagonal: arrows run down.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import grimp

PAGE = Path(__file__).parent.parent / "docs" / "architecture.md"
PACKAGE = "registry_pipelines"
HOUSE = (
    *("cli", "chain", "config", "node", "anatomy"),
    *("replicate", "mirror", "collect", "promote", "sign", "scan", "stream", "build"),
    *("infra", "events", "doctor", "report", "lifecycle", "weights", "inventory"),
    *("transfer", "evidence", "registry", "shared", "oci"),
)
TRANSFER = ("(ways in)", "delivery", "closure", "blob", "limits", "flow")


def table(container: str, rooms: Sequence[str]) -> str:
    """A row for each room, with a dot below each room that it imports. Modules that stand in no room are ``(ways in)``
    where that is one of the rooms, else left out. Imports are not counted: the page would be old with every commit."""
    graph = grimp.build_graph(PACKAGE)
    arrows: set[tuple[str, str]] = set()
    for module in graph.modules:
        source = _room(module, container, rooms)
        for imported in graph.find_modules_directly_imported_by(module):
            target = _room(imported, container, rooms)
            if source and target and source != target:
                arrows.add((source, target))
    lines = ["| | " + " | ".join(rooms[1:]) + " |", "|---|" + ":---:|" * (len(rooms) - 1)]
    for room in rooms[:-1]:
        dots = " | ".join("●" if (room, other) in arrows else "" for other in rooms[1:])
        lines.append(f"| **{room}** | {dots} |")
    up = [f"{source} -> {target}" for source, target in arrows if rooms.index(source) > rooms.index(target)]
    return "\n".join([*lines, *(f"\nUp: {each}" for each in sorted(up))])


def _room(module: str, container: str, rooms: Sequence[str]) -> str:
    if not module.startswith(f"{container}."):
        return ""
    room = module.removeprefix(f"{container}.").split(".")[0]
    return room if room in rooms else rooms[0] if rooms[0].startswith("(") else ""


def page(text: str) -> str:
    """The page with both tables as they are now, between their marks."""
    for name, container, rooms in (("house", PACKAGE, HOUSE), ("transfer", f"{PACKAGE}.transfer", TRANSFER)):
        begin, end = f"<!-- imports of the {name} -->\n", f"<!-- end of the {name} -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}{table(container, rooms)}\n{end}{rest.split(end)[1]}"
    return text
