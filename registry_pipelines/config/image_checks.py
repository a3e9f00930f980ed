"""Checks of what a configuration says of images: their places, channels, Dockerfiles, streaming and targets."""

from __future__ import annotations

from collections.abc import Iterable

import yaml

from registry_pipelines.anatomy.rechunk.section import problems as rechunk_problems
from registry_pipelines.config.document import child
from registry_pipelines.config.model import Config, Image
from registry_pipelines.config.registries import GarRegistry
from registry_pipelines.errors import TagImmutable
from registry_pipelines.release import check_channel
from registry_pipelines.stream.model import problems as stream_problems


def image_problems(root: yaml.Node, config: Config) -> Iterable[tuple[str, str]]:
    """Where, and what is wrong there. root: the file, for what is written and empty."""
    yield from _images(root, config)
    yield from _streams(root, config)
    yield from _targets(config)
    yield from _moving(config)


def _images(root: yaml.Node, config: Config) -> Iterable[tuple[str, str]]:
    used: dict[tuple[str, str], str] = {}
    for name, image in config.images.items():
        if (first := used.setdefault((image.registry, image.repository), name)) != name:
            yield f"images.{name}.repository", f"{image.registry}/{image.repository} belongs to `{first}` already"
        yield from _channels(child(child(root, "images"), name), image)
        if image.made_here and image.made_here.version in (each.name for each in image.order):
            yield f"images.{name}.{image.section}.version", "a version tag never moves, so it cannot be the channel tag"
        if image.build and image.build.wheels and image.build.wheels_from:
            yield (
                f"images.{name}.build.wheels_from",
                "stands in place of `wheels`; name a folder, or an artifact, not both",
            )
        if image.dockerfile:
            yield from _dockerfile(config, f"images.{name}", image)
        for target_name in image.targets:
            target = config.targets[target_name]
            if (target.registry, config.repository_at(image, target)) == (image.registry, image.repository):
                yield f"images.{name}.targets", f"target `{target_name}` is the place the image comes from"


def _dockerfile(config: Config, at: str, image: Image) -> Iterable[tuple[str, str]]:
    """What is wrong with an image from a Dockerfile. at: its place in the file."""
    settings = image.dockerfile
    if settings is None:
        return
    if image.build:
        yield f"{at}.dockerfile", "stands in place of `build`; an image is built in one way"
    for secret, source in settings.secrets.items():
        if (source.file is None) == (source.env is None):
            yield f"{at}.dockerfile.secrets.{secret}", "name either `file` or `env`"
    if settings.cache:
        cache = settings.cache.repository
        used = {place for each in config.images.values() for place in (each.repository, each.moving) if place}
        if cache in used:
            yield f"{at}.dockerfile.cache", f"{cache} is the repository of an image; a cache needs one of its own"
        if settings.cache.keep.days < 1:
            yield f"{at}.dockerfile.cache.keep", "a cache is kept for at least a day"
        if settings.engine in ("buildah", "docker"):
            yield f"{at}.dockerfile.cache", f"a cache in a registry is BuildKit's; `engine: {settings.engine}` has none"


def _same_folder(image: Image) -> bool:
    """Whether PROJECT/REPOSITORY of both is one."""
    return (image.moving or "").split("/")[:2] == image.repository.split("/")[:2]


def _moving(config: Config) -> Iterable[tuple[str, str]]:
    """What moves cannot be kept where nothing moves. Immutable tags are a setting of the repository: in Artifact
    Registry of PROJECT/REPOSITORY, with all images in it."""
    taken = {(image.registry, image.repository) for image in config.images.values()}
    for name, image in config.images.items():
        if image.moving is None:
            continue
        if (image.registry, image.moving) in taken:
            yield f"images.{name}.moving", "is the repository of an image; what moves needs one of its own"
        elif isinstance(config.registries.get(image.registry), GarRegistry) and _same_folder(image):
            yield f"images.{name}.moving", "is in the same repository of Artifact Registry, whose tags are all alike"
    for name, target in config.targets.items():
        if target.moving_prefix and target.moving_prefix == target.prefix:
            yield f"targets.{name}.moving_prefix", "is `prefix`; what moves needs a place of its own"


def _channels(node: yaml.Node | None, image: Image) -> Iterable[tuple[str, str]]:
    """What is wrong with the channels of an image, or said of them twice. node: its entry in the file."""
    path, order = f"images.{image.name}", image.order
    listed = child(node, "channels")
    if listed is not None and child(node, "channel") is not None:
        yield f"{path}.channel", "`channels` is written, too; write all channels there, in order"
    if isinstance(listed, yaml.SequenceNode) and not listed.value:
        yield f"{path}.channels", "names no channel; leave it out for the one named `prod`"
    for place, channel in enumerate(order):
        where = f"{path}.channel" if listed is None else f"{path}.channels[{place}]"
        try:
            check_channel(channel.name)
        except TagImmutable as error:
            yield where, f"{error.what}; {error.do}"
        if channel.name in (each.name for each in order[:place]):
            yield where, f"`{channel.name}` is a channel of {image.name} already"
        if not place and channel.after is not None:
            yield f"{where}.after", "there is no channel before the first, so no time is spent there"
        if not place and channel.deployed is not None:
            yield f"{where}.deployed", "nothing comes before the first channel, so no release runs anywhere by then"
    for field in ("policy", "targets"):
        own = isinstance(listed, yaml.SequenceNode) and all(child(each, field) for each in listed.value)
        if own and child(node, field) is not None:
            yield f"{path}.{field}", f"counts for nothing: every channel has `{field}` of its own"


def _streams(root: yaml.Node, config: Config) -> Iterable[tuple[str, str]]:
    images = child(root, "images")
    for name, image in config.images.items():
        node = child(child(images, name), "rechunk")
        if image.rechunk is not None:
            yield from ((f"images.{name}.rechunk.{field}", told) for field, told in rechunk_problems(image.rechunk))
        elif isinstance(node, yaml.ScalarNode) and node.value == "":
            told = "is empty, as if it were not written; write `rechunk: {}` for the defaults"
            yield f"images.{name}.rechunk", told
        if image.stream is None:
            node = child(child(images, name), "stream")
            if isinstance(node, yaml.ScalarNode) and node.value == "":
                yield (
                    f"images.{name}.stream",
                    "is empty, as if it were not written; write `stream: {}` for the defaults",
                )
            continue
        node = child(child(child(images, name), "stream"), "record")
        if isinstance(node, yaml.ScalarNode) and node.value == "":
            told = "is empty, as if it were not written; write `record: {}` for the defaults"
            yield f"images.{name}.stream.record", told
        yield from ((f"images.{name}.stream.{field}", problem) for field, problem in stream_problems(image.stream))


def _targets(config: Config) -> Iterable[tuple[str, str]]:
    used: dict[tuple[str, str], str] = {}
    for name, target in config.targets.items():
        if (first := used.setdefault((target.registry, target.prefix), name)) != name:
            yield f"targets.{name}", f"is the same place as target `{first}`"
