"""Declared settings of registries in clouds as files of Terraform, and the way back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from registry_pipelines.chain import infra, infra_clouds
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import InputError
from registry_pipelines.infra.settings import Setting
from registry_pipelines.infra.terraform.aws import AwsVersion
from registry_pipelines.infra.terraform.from_aws import FromAws
from registry_pipelines.infra.terraform.from_google import FromGoogle
from registry_pipelines.infra.terraform.reading import read
from registry_pipelines.infra.terraform.writing import TerraformPlace, Written, write


def written(session: Session, names: Sequence[str] = (), *, aws: AwsVersion = 6, take_over: bool = False) -> Written:
    """Files for registries (all that declare any, unless named), and what is left out of them. Asks nothing. Raises
    InputError for a registry that declares none, ConfigInvalid with everything that is wrong."""
    return write(places(session, names), aws=aws, take_over=take_over)


def places(session: Session, names: Sequence[str] = ()) -> list[TerraformPlace]:
    """What is declared of registries, with what a provider needs to find them. Raises as :func:`written`."""
    found = infra.declared(session, names)
    return [_place(session, name, settings) for name, settings in found.items()]


def _place(session: Session, name: str, settings: Sequence[Setting]) -> TerraformPlace:
    registry = infra_clouds.registry_of(session, name)
    if registry.kind == "gar":
        return TerraformPlace(
            name=name,
            kind="gar",
            settings=tuple(settings),
            project=registry.project,
            location=registry.location,
            impersonate=registry.impersonate,
        )
    return TerraformPlace(
        name=name,
        kind="ecr",
        settings=tuple(settings),
        account=registry.account,
        region=registry.region,
        role=registry.role,
        external_id=registry.external_id,
    )


def imported(
    session: Session, name: str, files: Mapping[str, bytes], *, folder: str = ""
) -> tuple[str, dict[str, bytes], list[str]]:
    """What files of Terraform say of a registry, as :func:`registry_pipelines.chain.infra.imported` tells what is
    there. files: content by name. Asks no cloud. Raises InputError for what is no file of Terraform's."""
    registry = infra_clouds.registry_of(session, name)
    resources = [each for path, content in files.items() for each in read(content, where=path)]
    maker: FromAws | FromGoogle
    if registry.kind == "gar":
        maker = FromGoogle(name, project=registry.project, location=registry.location)
    else:
        maker = FromAws(name, account=registry.account, region=registry.region)
    settings = maker.settings(resources)
    if not settings:
        do = "Check account and region, or project and location"
        raise InputError(f"there is nothing of {name}", where=", ".join(files), do=do)
    return infra.as_section(session, name, settings, maker.notes, folder=folder)
