"""Amazon ECR: the distribution protocol, with log-in and uploads by ECR's own API. ``EcrRegistry`` is the door."""

from registry_pipelines.registry.ecr.hosts import EcrHost, read_host
from registry_pipelines.registry.ecr.registry import EcrRegistry

__all__ = ["EcrHost", "EcrRegistry", "read_host"]
