"""The areas of the double: each answers some operations of a service, see ``front.Area``. One line and file each."""

from __future__ import annotations

from tests.doubles.aws.cloudtrail import CloudTrail
from tests.doubles.aws.ecr_caches import EcrCaches
from tests.doubles.aws.ecr_images import EcrImages
from tests.doubles.aws.ecr_layers import EcrLayers
from tests.doubles.aws.ecr_policies import EcrPolicies
from tests.doubles.aws.ecr_public import EcrPublic
from tests.doubles.aws.ecr_registry import EcrRegistries
from tests.doubles.aws.ecr_replication import EcrReplication
from tests.doubles.aws.ecr_scans import EcrScans
from tests.doubles.aws.ecr_signing import EcrSigning
from tests.doubles.aws.eks import Eks
from tests.doubles.aws.events import EventBridge
from tests.doubles.aws.front import Area
from tests.doubles.aws.inspector import InspectorCoverage
from tests.doubles.aws.instances import Instances, Roles
from tests.doubles.aws.kms import Kms
from tests.doubles.aws.pricing import PriceList
from tests.doubles.aws.signer import SignerProfiles
from tests.doubles.aws.signer_signing import SignerSigning
from tests.doubles.aws.sts import Sts
from tests.doubles.aws.usage import Ecs, InspectorClusters, Lambda, SageMaker
from tests.doubles.aws.vpc import VpcEndpoints

AREAS: tuple[type[Area], ...] = (
    EcrRegistries,
    EcrImages,
    EcrLayers,
    EcrPolicies,
    EcrCaches,
    EcrReplication,
    SignerProfiles,
    SignerSigning,
    EcrScans,
    EcrSigning,
    InspectorCoverage,
    EcrPublic,
    EventBridge,
    Sts,
    Kms,
    VpcEndpoints,
    Ecs,
    Lambda,
    SageMaker,
    InspectorClusters,
    Instances,
    Roles,
    CloudTrail,
    PriceList,
    Eks,
)
