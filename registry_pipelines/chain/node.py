"""What a configuration tells ``node serve``."""

from __future__ import annotations

from collections.abc import Sequence

from registry_pipelines.config import Config


def announced(config: Config | None, more: Sequence[str] = ()) -> list[str]:
    """References of the images that a node knows before they are pulled, each once; see ``node.announce``. more: those
    of the command line."""
    found = list(more)
    if config is not None:
        wanted = config.node.announce
        found += wanted.images
        target = config.targets[wanted.target] if wanted.target else None
        for image in config.images.values() if wanted.channels else ():
            place = (target.registry, config.repository_at(image, target)) if target else None
            registry, repository = place or (image.registry, image.repository)
            found += [f"{registry}/{repository}:{channel.name}" for channel in image.order]
    return list(dict.fromkeys(found))


__all__ = ["announced"]
