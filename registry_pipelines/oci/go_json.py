"""Image configs as programs written in Go read them: Docker, containerd and containers/image, which start images.

Go's ``encoding/json`` takes a member for a field in whatever letters its name is written, and reads all of several that
fit, one into the other; of a list that is null nothing is read, and letters that are no UTF-8 are replaced. A config
that says one thing to them and another to us would hide an image from whoever looks for images.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

NAMES = {name.casefold(): name for name in ("architecture", "os", "variant", "created", "config", "rootfs", "history")}
"""Members of an image config that we read (image-spec, config.md)."""

LAYERS = {name.casefold(): name for name in ("type", "diff_ids")}
"""Members of its ``rootfs``."""


class _Members(list[tuple[str, object]]):
    """Of a JSON object, in order, with those that stand there twice."""


def lists_layers(raw: bytes) -> bool:
    """Whether such a program finds layers in an image config. What is nested too deep to be looked through has some,
    and what is no JSON object has none: nobody starts it."""
    try:
        members = _members(raw)
    except RecursionError:
        return True
    except ValueError:
        return False
    return any(True for rootfs in _named(members, "rootfs") for _ in _named(rootfs, "diff_ids"))


def read_apart(raw: bytes) -> str:
    """A member that they and we would read as different things, empty when there is none: it stands there twice, or in
    other letters. Raises ValueError, RecursionError."""
    members = _members(raw)
    below = (_odd(rootfs, LAYERS) for rootfs in _named(members, "rootfs"))
    return _odd(members, NAMES) or next(filter(None, below), "")


def _members(raw: bytes) -> object:
    decoder = json.JSONDecoder(object_pairs_hook=_Members, parse_int=str, parse_float=str, parse_constant=str)
    return decoder.decode(raw.decode("utf-8", "replace"))


def _named(value: object, wanted: str) -> Iterator[object]:
    """What stands under a name, in whatever letters, and is not empty or null."""
    for name, item in value if isinstance(value, _Members) else ():
        if name.casefold() == wanted and item:
            yield item


def _odd(value: object, names: dict[str, str]) -> str:
    seen: set[str] = set()
    for name, _ in value if isinstance(value, _Members) else ():
        folded = name.casefold()
        if folded in names and (folded in seen or name != names[folded]):
            return name
        seen.add(folded)
    return ""


__all__ = ["lists_layers", "read_apart"]
