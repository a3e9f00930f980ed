"""YAML that is written for other programs; ``config`` reads and writes its own."""

from __future__ import annotations

from typing import Any


def to_yaml(content: dict[str, Any], *, comment: str = "") -> bytes:
    """An object as YAML, its fields in the order in which they were written. comment: lines above it."""
    import yaml

    class Plain(yaml.SafeDumper):
        """Writes what occurs twice out twice: an anchor is hard to read."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    text: str = yaml.dump(content, Dumper=Plain, sort_keys=False, width=1_000_000)
    return ("".join(f"# {line}\n" for line in comment.splitlines()) + text).encode()
