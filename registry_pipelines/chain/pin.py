"""A Dockerfile with its images by digest, and through the caches of the configuration."""

from __future__ import annotations

from pathlib import Path

from registry_pipelines.build.from_lines import MAX_DOCKERFILE_BYTES, FromLine, rewrite
from registry_pipelines.chain.places import Places
from registry_pipelines.errors import InputError
from registry_pipelines.registry.through_cache import Served


def pin(places: Places, path: Path) -> tuple[str, list[FromLine]]:
    """The file's text with each image as ``place:tag@digest``, at the cache where the configuration has one for its
    host: builders then take exactly the digest that the upstream's tag names now. Raises InputError, RegistryError."""
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("cannot be read as text", where=str(path)) from error
    if len(raw) > MAX_DOCKERFILE_BYTES:
        raise InputError(f"is larger than {MAX_DOCKERFILE_BYTES} bytes", where=str(path))

    def pinned(image: str) -> str:
        located = places.locate(image)
        place = located.place
        digest = located.digest or place.registry.resolve(place.repository, located.tag).digest
        where = place.registry.served_by(place.repository) if isinstance(place.registry, Served) else str(place)
        return f"{where}{f':{located.tag}' if located.tag else ''}@{digest}"

    return rewrite(text, pinned)
