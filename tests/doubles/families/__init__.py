"""Registries as they are: the embedded server, made to behave as each family of registries is known to.

``python -m tests.doubles.families`` writes docs/registries.md from the same tables.
"""

from tests.doubles.families.acr import ACR
from tests.doubles.families.artifact_registry import ARTIFACT_REGISTRY
from tests.doubles.families.artifactory import ARTIFACTORY
from tests.doubles.families.distribution import DISTRIBUTION_2, DISTRIBUTION_3
from tests.doubles.families.docker_hub import DOCKER_HUB
from tests.doubles.families.ecr import ECR
from tests.doubles.families.engine import FamilyServer
from tests.doubles.families.ghcr import GHCR
from tests.doubles.families.gitlab import GITLAB
from tests.doubles.families.harbor import HARBOR
from tests.doubles.families.kubernetes import KUBERNETES
from tests.doubles.families.nexus import NEXUS
from tests.doubles.families.quay import QUAY
from tests.doubles.families.table import Family
from tests.doubles.families.zot import ZOT

FAMILIES: tuple[Family, ...] = (
    DOCKER_HUB,
    GHCR,
    KUBERNETES,
    ARTIFACT_REGISTRY,
    ECR,
    ACR,
    QUAY,
    GITLAB,
    HARBOR,
    ARTIFACTORY,
    NEXUS,
    ZOT,
    DISTRIBUTION_2,
    DISTRIBUTION_3,
)

__all__ = ["FAMILIES", "Family", "FamilyServer"]
