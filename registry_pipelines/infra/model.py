"""What is declared below ``infra`` of the configuration: for each registry in a cloud, the settings it is to have."""

from __future__ import annotations

from typing import TypeAlias

from registry_pipelines.infra.ecr.model import EcrInfra
from registry_pipelines.infra.gar.model import GarInfra

Infra: TypeAlias = EcrInfra | GarInfra
"""By ``kind``, the same word as the registry's own."""

__all__ = ["EcrInfra", "GarInfra", "Infra"]
