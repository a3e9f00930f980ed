"""Weights of models that are kept in several places: the section ``weights``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from registry_pipelines.settings import EntryName, unknown
from registry_pipelines.weights.paths import is_store

if TYPE_CHECKING:
    from registry_pipelines.config.model import Config


class KeptWeights(msgspec.Struct, frozen=True, kw_only=True):
    """Weights that come from one place and are to be at others (docs/weights.md)."""

    name: EntryName
    source: str
    """Where new sets appear: `REGISTRY/REPOSITORY:TAG`, `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`,
    `az://CONTAINER/PREFIX`, or a folder that begins with `/`."""
    to: tuple[str, ...] = ()
    """Where they must be; written as the source is."""
    image: str = ""
    """Release that they are attached to, `IMAGE:TAG`; `IMAGE` alone while it has one release."""
    signed: bool = False
    """Whether only sets with a signature of a key that `signing` believes are taken."""


def weights_problems(config: Config) -> Iterator[tuple[str, str]]:
    """Where, and what."""
    for name, settings in config.weights.items():
        path = f"weights.{name}"
        if not settings.to and not settings.image:
            yield path, "has no place where the weights are to be; write `to`, or an `image`"
        for at, text in ((f"{path}.source", settings.source), *((f"{path}.to", each) for each in settings.to)):
            if is_store(text):
                if text.startswith(("./", "../", "~")):
                    yield at, f"{text} depends on where a run starts; write a path that begins with /"
            elif ":" not in text.rpartition("/")[2]:
                yield at, f"{text} has no tag; write REGISTRY/REPOSITORY:TAG"
        if settings.source in settings.to:
            yield f"{path}.to", f"{settings.source} is where they come from"
        image = settings.image.partition(":")[0].partition("@")[0]
        if image and image not in config.images:
            yield f"{path}.image", unknown(image, config.images, "image")


__all__ = ["KeptWeights", "weights_problems"]
