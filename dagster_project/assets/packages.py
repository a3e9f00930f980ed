"""Python packages of ours: wheels that are made of a source folder and published to an index."""

from collections.abc import Iterator

import dagster as dg

from dagster_project.checks import outcome
from dagster_project.report import Materialized, refusals, succeeded
from dagster_project.resources import ChainParam
from registry_pipelines.build.packages.model import PythonPackage
from registry_pipelines.config import Config

GROUP = "packages"
ON_INDEX = "on_index"
PREFIX = "python_package"


def key_of(name: str) -> dg.AssetKey:
    """The asset's key of a package."""
    return dg.AssetKey([PREFIX, name])


def python_package(package: PythonPackage) -> dg.AssetsDefinition:
    """The asset that makes a package's wheel and publishes it; its check asks the index whether it has that file."""

    @dg.asset(
        key=key_of(package.name),
        group_name=GROUP,
        kinds={"python"},
        owners=["team:platform"],
        code_version="1",
        check_specs=[
            dg.AssetCheckSpec(
                ON_INDEX,
                asset=key_of(package.name),
                description=f"{package.to} has the wheel that was built, by its sha256.",
            )
        ],
        description=f"The wheel of {package.source.name}, published to {package.to}. The same source gives the same "
        "wheel, and what was published is never replaced: a change needs a new version.",
    )
    def made(context: dg.AssetExecutionContext, chain: ChainParam) -> Iterator[Materialized | dg.AssetCheckResult]:
        with refusals(context):
            result = chain.make_package(package.name)
            found = chain.check_package(package.name, result)
        yield outcome(ON_INDEX, passed=found.ok, reasons=found.reasons, **found.facts)
        yield succeeded(context, result)

    return made


def packages_for_builds(config: Config) -> list[dg.AssetKey]:
    """Packages that images built here may take: those that are published to an index of a build."""
    taken = {name for image in config.images.values() if image.build for name in image.build.index}
    return [key_of(package.name) for package in config.python_packages.values() if package.to in taken]


__all__ = ["packages_for_builds", "python_package"]
