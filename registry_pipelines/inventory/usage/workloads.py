"""The images in objects of a cluster: every container of every kind of pod, in every kind of template.

``kubernetes`` reads what clusters hold with it, ``promote.admission`` what they are asked to take.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from registry_pipelines.errors import ContentError, ManifestInvalid
from registry_pipelines.progress import count_text

CONTAINERS = {
    "containers": "container",
    "initContainers": "init container",
    "ephemeralContainers": "ephemeral container",
}
"""Lists of a pod whose entries have an ``image`` (core/v1, PodSpec)."""

_TEMPLATE = ("spec", "template", "spec")
POD_SPECS: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "Pod"): ("spec",),
    ("", "PodTemplate"): ("template", "spec"),
    ("", "ReplicationController"): _TEMPLATE,
    ("apps", "Deployment"): _TEMPLATE,
    ("apps", "ReplicaSet"): _TEMPLATE,
    ("apps", "StatefulSet"): _TEMPLATE,
    ("apps", "DaemonSet"): _TEMPLATE,
    ("batch", "Job"): _TEMPLATE,
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template", "spec"),
}
"""Where the kinds of Kubernetes itself keep their pod, by group and kind."""

MAX_DEPTH = 64
"""Of objects of other kinds, in which pods are looked for."""
MAX_IMAGES = 2048
"""Of one object; a pod has a handful."""


class GroupKind(Protocol):
    """Which kind of object; the group is empty for the core's."""

    @property
    def group(self) -> str:
        """``apps``."""
        ...

    @property
    def kind(self) -> str:
        """``Deployment``."""
        ...


class ImageAt(NamedTuple):
    """An image that an object would have a node pull."""

    pointer: str
    """JSON pointer of the text (RFC 6901), for a patch."""
    what: str
    """For people: ``init container 'setup'``."""
    key: tuple[str, ...]
    """Which container or volume it is, wherever it stands in its list."""
    image: str


def images_of(kind: GroupKind, content: dict[str, Any]) -> list[ImageAt]:
    """Every image of an object: containers, init and ephemeral ones, and volumes of kind image.

    Kinds that are not Kubernetes' own are searched whole for lists of containers. Raises ManifestInvalid for lists that
    are none, and images that are no text; ContentError for an object in which no pod is found: what this cannot read
    it cannot let pass.
    """
    path = POD_SPECS.get((kind.group, kind.kind))
    if path is not None:
        found = list(_of_pod(_at(content, path), "".join(f"/{part}" for part in path)))
    else:
        found = [each for spec, pointer in _pods(content) for each in _of_pod(spec, pointer)]
        if not found:
            raise ContentError(
                f"no pod is found in a {kind.kind[:63]} of {kind.group[:63] or 'the core'}, so nothing is known of it",
                do="Leave this kind out of the webhook's rules",
            )
    if len(found) > MAX_IMAGES:
        raise ManifestInvalid(f"the object has {count_text(len(found), 'image')}, at most {MAX_IMAGES} are judged")
    return found


def _at(content: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    found: Any = content
    for part in path:
        found = found.get(part) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        raise ManifestInvalid(f"the object has no {'.'.join(path)}")
    return found


def _of_pod(spec: dict[str, Any], pointer: str) -> Iterator[ImageAt]:
    for name, what in CONTAINERS.items():
        for position, entry in enumerate(_list(spec, name)):
            yield _image(entry, "image", f"{pointer}/{name}/{position}", what, (pointer, name))
    for position, entry in enumerate(_list(spec, "volumes")):
        if entry.get("image") is not None:
            source = entry["image"]
            if not isinstance(source, dict):
                raise ManifestInvalid("the image of a volume is no mapping")
            if source.get("reference"):  # may be left empty: nothing is mounted then
                named = {**source, "name": entry.get("name")}
                yield _image(named, "reference", f"{pointer}/volumes/{position}/image", "volume", (pointer, "volumes"))


def _list(spec: dict[str, Any], name: str) -> list[dict[str, Any]]:
    entries = spec.get(name)
    if entries is None:
        return []
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise ManifestInvalid(f"`{name}` is no list of mappings")
    return entries


def _image(entry: dict[str, Any], field: str, pointer: str, what: str, where: tuple[str, str]) -> ImageAt:
    name, image = str(entry.get("name") or "")[:63], entry.get(field)
    if not isinstance(image, str):
        raise ManifestInvalid(f"{what} {name!r} has no `{field}`")
    return ImageAt(f"{pointer}/{field}", f"{what} {name!r}", (*where, name), image)


def _pods(content: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Every mapping with lists of containers in it, and where."""
    waiting: list[tuple[Any, str, int]] = [(content, "", 0)]
    while waiting:
        value, pointer, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ManifestInvalid(f"the object is deeper than {MAX_DEPTH} levels")
        if isinstance(value, dict):
            if any(isinstance(value.get(name), list) for name in CONTAINERS):
                yield value, pointer
            waiting += [(each, f"{pointer}/{_escaped(str(name))}", depth + 1) for name, each in value.items()]
        elif isinstance(value, list):
            waiting += [(each, f"{pointer}/{position}", depth + 1) for position, each in enumerate(value)]


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
