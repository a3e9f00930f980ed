"""What an image shares with the others of its registry, and what its last releases moved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from registry_pipelines.anatomy.changes import changes_of, earlier_tags, read_releases
from registry_pipelines.anatomy.report import Anatomy, Changes, Sharing
from registry_pipelines.anatomy.sharing import Others, list_images, sharing_of, stored_images
from registry_pipelines.chain.places import Located
from registry_pipelines.chain.releases import names_release
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import is_version_tag
from registry_pipelines.stream.lazy.image import image_for
from registry_pipelines.transfer.closure.listed import list_tags
from registry_pipelines.transfer.closure.selector import ALL

if TYPE_CHECKING:
    from registry_pipelines.config import Config


def sharing(
    config: Config | None, reference: str, located: Located, found: Anatomy, inventory: Path | None, state: Path
) -> Sharing:
    """reference: as a person wrote it, for the registry's name in the inventory. state: where records of layers are,
    unless the configuration says. Raises InputError, RegistryError of the image's own repository."""
    image = image_for(located.place, found.digest)
    layers = [(layer.digest, diff_id) for layer, diff_id in image.layers]
    others: Others
    if inventory is None:
        others = list_images(located.place)
    else:
        name = reference.partition("@")[0].partition(":")[0]
        own = config.images[name].registry if config and name in config.images else reference.partition("/")[0]
        others = stored_images(inventory, own, [digest for digest, _ in layers])
    store = LayerStore((config.state if config else state) / "layers")
    return sharing_of(found, layers, located.place.repository, others, store)


def changes(config: Config | None, reference: str, located: Located, found: Anatomy, count: int) -> Changes:
    """What the last ``count`` releases moved: of an image of the configuration those that its patterns name, else
    version tags. Raises RegistryError."""
    name = reference.partition("@")[0].partition(":")[0]
    takes: Callable[[str], bool] = is_version_tag
    if config and name in config.images:
        settings = config.images[name]
        takes = lambda tag: names_release(settings, tag)  # noqa: E731
    return changes_at(located.place, located.tag, found, takes, count)


def changes_at(place: Place, tag: str, found: Anatomy, takes: Callable[[str], bool], count: int) -> Changes:
    """The same of a place. tag: the release's; empty where it was named by digest. takes: which tags are releases."""
    tags = [each for each in list_tags(place, ALL).every if takes(each)]
    newest = tag if tag and takes(tag) else ""
    named = earlier_tags(tags, newest, count)
    images, notes = read_releases(place, named, Platform.written(found.platform))
    digests = [image.descriptor.digest for _, image in images]
    if Digest(found.digest) in digests:
        images = images[digests.index(Digest(found.digest)) :]
    else:
        images = [(tag or found.digest, image_for(place, found.digest)), *images[: count - 1]]
    return changes_of(found.layers, [(name, image.manifest.layers) for name, image in images], notes)
