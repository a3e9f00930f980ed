"""The one resource: the library's chain. Also where the configuration is found, and where Dagster keeps its state."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import dagster as dg

from registry_pipelines.chain import Chain
from registry_pipelines.config import ENVIRONMENT_VARIABLE, FILE_NAME, Config, load
from registry_pipelines.errors import InputError

DEMO_CONFIG = Path(__file__).parent.parent / "deploy" / "demo" / FILE_NAME
INSTANCE_SETTINGS = Path(__file__).parent / "instance.yaml"

ChainParam = dg.ResourceParam[Chain]
"""A parameter named ``chain`` that gets the library's chain."""


def config_path(env: Mapping[str, str] = os.environ) -> Path:
    """The configuration of this code location: what the environment names, else ``registry-pipelines.yaml`` in the
    working directory, else the demo's. Raises InputError when there is none."""
    named = env.get(ENVIRONMENT_VARIABLE)
    for path in [Path(named)] if named else [Path.cwd() / FILE_NAME, DEMO_CONFIG]:
        if path.is_file():
            return path.absolute()
    raise InputError(
        f"there is no configuration at {named or FILE_NAME}",
        do=f"Set {ENVIRONMENT_VARIABLE} to its path, or start where {FILE_NAME} is",
    )


def find_config() -> Config:
    """Load the configuration of :func:`config_path`. Raises InputError, ConfigInvalid. Not for what is wrong in its
    ``schedules``: those are shown as broken, and everything else goes on."""
    config = load(config_path(), spare="schedules")
    for note in config.notes:
        dg.get_dagster_logger().warning("%s", note)
    return config


def chain_resource(build: Callable[[], Chain]) -> dg.ResourceDefinition:
    """A chain per run or tick, made when it is first needed, so that loading the definitions opens nothing."""
    return dg.ResourceDefinition(lambda _: build(), description="Every stage of the library, as configured.")


def prepare_home(config: Config, env: Mapping[str, str] = os.environ) -> Path:
    """Dagster's home: ``$DAGSTER_HOME``, or ``dagster`` below the state folder; with our settings when it is new.

    Settings that are there already are left alone: they belong to the operator. Returns an absolute path.
    """
    home = Path(env.get("DAGSTER_HOME") or config.state / "dagster").absolute()
    home.mkdir(parents=True, exist_ok=True)
    settings = home / "dagster.yaml"
    if not settings.exists():
        settings.write_bytes(INSTANCE_SETTINGS.read_bytes())
    return home
