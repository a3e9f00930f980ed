"""Which tags of this configuration are kept in a repository of their own, because those of their image never move."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry_pipelines import config as configuration
from registry_pipelines.errors import LocalError, RegistryError, TagImmutable
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.moving import Elsewhere
from registry_pipelines.registry.protocol import KeepsTagged, Place, Registry

if TYPE_CHECKING:
    from registry_pipelines.chain.session import Session
    from registry_pipelines.config import Config, Image


def moving_tags(config: Config, registry: str) -> dict[str, Elsewhere]:
    """For each repository of a registry whose image or target says so, where its moving tags are."""
    found: dict[str, Elsewhere] = {}
    for image in config.images.values():
        channels = frozenset(each.name for each in image.order)
        if image.moving and image.registry == registry:
            found[image.repository] = Elsewhere(image.moving, channels)
        for name in image.with_order().targets:
            target = config.targets[name]
            if target.moving_prefix and target.registry == registry:
                there = f"{target.moving_prefix}/{image.repository}"
                found[config.repository_at(image, target)] = Elsewhere(there, channels)
    return found


def check_tag_moves(session: Session, image: Image, tag: str) -> None:
    """Whether a tag may name another release tomorrow, where the source registry tells. Raises TagImmutable.

    One request to the cloud's API, which needs ``ecr:DescribeRepositories`` or ``artifactregistry.repositories.get``;
    without that right, or an answer, the registry itself says so later: a tag that exists is refused, and a new one
    stays for ever where it is.
    """
    settings = session.config.registries[image.registry]
    elsewhere = moving_tags(session.config, image.registry).get(image.repository)
    if elsewhere and elsewhere.has(tag):
        return
    do = "Say in `moving` of the image which repository has its moving tags"
    if isinstance(settings, configuration.EcrRegistry):
        fixed = _is_fixed_in_ecr(settings, image.repository, tag)
        do += ", or name the tag in an exclusion of the repository (IMMUTABLE_WITH_EXCLUSION)"
    elif isinstance(settings, configuration.GarRegistry):
        fixed = _is_fixed_in_gar(session.places.registry(image.registry), image.repository)
    else:
        return
    if fixed:
        raise TagImmutable(
            f"{tag} has to move, and the tags of {image.repository} are immutable",
            where=f"{settings.host}/{image.repository}:{tag}",
            do=do,
        )


def _is_fixed_in_ecr(settings: configuration.EcrRegistry, repository: str, tag: str) -> bool:
    from registry_pipelines.registry.ecr.images import EcrImages  # most registries are others

    try:
        return EcrImages(settings.account, settings.access()).find_repository(repository).is_fixed(tag)
    except (RegistryError, LocalError):
        return False


def _is_fixed_in_gar(registry: Registry, repository: str) -> bool:
    try:
        return isinstance(registry, KeepsTagged) and registry.keeps_tagged(repository)
    except (RegistryError, LocalError):
        return False


def bring(registry: Registry, repository: str, there: str, digest: Digest) -> None:
    """What a tag's manifest needs, from one repository to another of the same registry: blobs are mounted where it
    does that. Raises as ``copy_closure``."""
    from registry_pipelines.transfer.copying import copy_closure  # most registries move nothing

    copy_closure(Place(registry, repository), digest, [Place(registry, there)])
