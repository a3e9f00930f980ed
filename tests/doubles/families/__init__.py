"""Registries as they are: the embedded server, made to behave as each family of registries is known to."""

from tests.doubles.families.acr import ACR
from tests.doubles.families.distribution import DISTRIBUTION_2, DISTRIBUTION_3
from tests.doubles.families.ecr import ECR
from tests.doubles.families.engine import FamilyServer
from tests.doubles.families.kubernetes import KUBERNETES
from tests.doubles.families.table import Family
from tests.doubles.families.zot import ZOT

FAMILIES: tuple[Family, ...] = (KUBERNETES, ECR, ACR, ZOT, DISTRIBUTION_2, DISTRIBUTION_3)

__all__ = ["FAMILIES", "Family", "FamilyServer"]
