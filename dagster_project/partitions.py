"""What runs are about: one key per live release, one key per image that we build."""

import dagster as dg

from registry_pipelines.config import Config
from registry_pipelines.release import Release

RELEASES = dg.DynamicPartitionsDefinition(name="release")
"""Keys are ``image:tag@sha256:<64 hex>`` (:class:`registry_pipelines.release.Release`). Hundreds to a few thousand: the
push sensor adds them, its reconcile removes those whose tag is gone from the source registry."""


def built_images(config: Config) -> list[str]:
    """Names of the images that have a build section, in the order of the configuration."""
    return [name for name, image in config.images.items() if image.build is not None]


def release_of(context: dg.AssetExecutionContext) -> Release:
    """The release of this step. Raises InputError: Dagster takes any text as a dynamic key, so it is read strictly."""
    return Release.parse(context.partition_key)
