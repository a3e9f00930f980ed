"""Which files of an image go with its weights, and by which names they are known outside of it.

Weights do not load alone: beside them lie a config, a tokenizer, the list of the shards. Those go with them by their
names, from the same folder; where an index of several parts stands above (diffusers, sentence-transformers), from all
of that folder. A download cache keeps files by their hash and names them by links (``huggingface_hub``): the link's
path is the name.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence

from registry_pipelines.anatomy.report import FilePart
from registry_pipelines.scan.facts import LayerContent

MAX_COMPANION_BYTES = 256 << 20
"""Of one; a tokenizer has 30 MB at most."""

_COMPANION = re.compile(
    r"(?:[a-z0-9_]*config|tokenizer|special_tokens_map|added_tokens|vocab|model_index|modules|chat_template|processor"
    r"|[A-Za-z0-9_.-]+\.index)\.json\Z|(?:merges|vocab)\.txt\Z|chat_template\.jinja\Z|(?:tokenizer|spiece|sentencepiece"
    r"\.bpe|spm)\.model\Z|tekken\.json\Z|(?:README\.md|LICENSE(?:\.[a-z]+)?|NOTICE|USE_POLICY\.md)\Z"
)
_INDEXES = ("model_index.json", "modules.json")


def links_to(contents: Sequence[LayerContent | None]) -> dict[str, str]:
    """By file the shortest symbolic link to it that is no further link; links in folders are not followed."""
    links: dict[str, str] = {}
    for content in contents:
        if content is not None:
            for path in (*content.removed, *content.facts, *content.folders):
                links.pop(path, None)
            links.update(content.links)
    found: dict[str, str] = {}
    for path, target in sorted(links.items(), key=lambda pair: (len(pair[0]), pair[0])):
        whole = posixpath.normpath(posixpath.join("/", posixpath.dirname(path), target)).lstrip("/")
        found.setdefault(whole, path)
    return found


def name_of(part: FilePart, links: Mapping[str, str]) -> str:
    """The path by which programs know a file: its link, where it has one."""
    return next((links[path] for path in part.standing if path in links), part.path)


def companions(weights: Iterable[str], others: Iterable[str]) -> set[str]:
    """Of the names of other files those that go with weights; weights: their names."""
    folders = {posixpath.dirname(path) for path in weights}
    names = set(others)
    whole = {
        above
        for folder in folders
        for above in (folder, posixpath.dirname(folder))
        if above and any(f"{above}/{index}" in names for index in _INDEXES)
    }
    return {
        path
        for path in names
        if _COMPANION.match(posixpath.basename(path))
        and (posixpath.dirname(path) in folders or any(path.startswith(f"{folder}/") for folder in whole))
    }


def common_folder(names: Iterable[str]) -> str:
    """The folder that holds all files; empty: the root."""
    folders = [posixpath.dirname(path).split("/") for path in names]
    shared = []
    for parts in zip(*folders, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return "/".join(shared)


__all__ = ["MAX_COMPANION_BYTES", "common_folder", "companions", "links_to", "name_of"]
