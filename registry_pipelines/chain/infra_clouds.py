"""Which cloud has a registry's settings. Only its own half of ``infra``, and its libraries, are loaded."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from registry_pipelines.chain.session import Session
from registry_pipelines.errors import InputError
from registry_pipelines.infra.cloud import Found, SettingsCloud
from registry_pipelines.infra.settings import Setting
from registry_pipelines.settings import unknown

if TYPE_CHECKING:
    from registry_pipelines.config.clouds import EcrRegistry, GarRegistry
    from registry_pipelines.infra.model import Infra


class Declared(Protocol):
    """The settings that a registry is to have, and what is wrong with their declaration."""

    settings: list[Setting]
    problems: list[tuple[str, str]]


class ImportingCloud(SettingsCloud, Protocol):
    """A cloud that also tells all that is there."""

    def everything(self) -> Found:
        """What an import takes. Raises RegistryError."""
        ...


class Imported(Protocol):
    """What is there as it would be declared: a section, files by path, what is left out."""

    section: dict[str, object]
    files: dict[str, bytes]
    notes: list[str]


def registry_of(session: Session, name: str) -> EcrRegistry | GarRegistry:
    """A registry of the configuration that is in a cloud. Raises InputError."""
    from registry_pipelines.config.clouds import EcrRegistry, GarRegistry

    registry = session.config.registries.get(name)
    if registry is None:
        raise InputError(
            unknown(name, session.config.registries, "registry"), do="Name a registry of the configuration"
        )
    if not isinstance(registry, EcrRegistry | GarRegistry):
        raise InputError(f"{name} is of kind {registry.kind}, which has no settings that can be declared")
    return registry


def wanted(session: Session, name: str, infra: Infra) -> Declared:
    """What is declared of a registry. Raises InputError for one that is in no cloud we know."""
    registry = registry_of(session, name)
    if registry.kind == "gar":
        from registry_pipelines.infra.gar.wanted import Wanted as GarWanted

        return GarWanted(infra, project=registry.project, location=registry.location)  # type: ignore[arg-type]
    from registry_pipelines.infra.ecr.wanted import Wanted as EcrWanted

    return EcrWanted(infra, account=registry.account, region=registry.region)  # type: ignore[arg-type]


def cloud_of(session: Session, name: str) -> ImportingCloud:
    """The settings of one registry where it is. Raises InputError for a registry that is in no cloud we know."""
    registry = registry_of(session, name)
    if registry.kind == "gar":
        from registry_pipelines.infra.gar.asking import Asking as GoogleAsking
        from registry_pipelines.infra.gar.cloud import GarSettings

        return GarSettings(
            name, GoogleAsking(session.places.google(registry), project=registry.project, location=registry.location)
        )
    from registry_pipelines.infra.ecr.asking import Asking
    from registry_pipelines.infra.ecr.cloud import EcrSettings

    def asking(of: str) -> Asking:
        ecr, aws = session.places.ecr(of)
        return Asking(aws, account=ecr.account, region=ecr.region)

    # Where copies in other accounts are looked for: registries of the configuration have credentials of their own.
    others = {
        f"{each.account}/{each.region}": partial(asking, other)
        for other, each in session.config.registries.items()
        if each.kind == "ecr"
    }
    return EcrSettings(name, asking(name), state=session.documents.under(f"infra/{name}"), elsewhere=others)


def as_declared(session: Session, name: str, settings: Sequence[Setting], *, folder: str) -> Imported:
    """What was found of a registry, as it would be declared. folder: of policy files, from the configuration's."""
    if registry_of(session, name).kind == "gar":
        from registry_pipelines.infra.gar.importing import Imported as GarImported

        return GarImported(name, settings, folder=folder)
    from registry_pipelines.infra.ecr.importing import Imported as EcrImported

    return EcrImported(name, settings, folder=folder)
