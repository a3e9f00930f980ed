"""The client of OCI distribution registries: transport, authorization, verbs. ``DistributionRegistry`` is the door."""

from registry_pipelines.registry.client.distribution import DistributionRegistry
from registry_pipelines.registry.client.retries import Retries
from registry_pipelines.registry.client.transport import Timeouts

__all__ = ["DistributionRegistry", "Retries", "Timeouts"]
