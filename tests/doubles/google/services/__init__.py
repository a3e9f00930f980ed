"""The services of the double, one file each. A new one is a file with its ``Service``, and a row of ``SERVICES``."""

from tests.doubles.google.services import artifactregistry, binaryauthorization, containeranalysis, kms, pubsub

SERVICES = (
    artifactregistry.SERVICE,
    binaryauthorization.MANAGEMENT,
    binaryauthorization.VALIDATION,
    containeranalysis.ANALYSIS,
    containeranalysis.GRAFEAS,
    kms.SERVICE,
    pubsub.PUBLISHER,
    pubsub.SUBSCRIBER,
)
