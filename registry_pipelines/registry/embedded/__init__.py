"""A registry in this process: OCI distribution 1.1 over one OCI layout folder per repository."""

from registry_pipelines.registry.embedded.auth import User
from registry_pipelines.registry.embedded.garbage import Collected
from registry_pipelines.registry.embedded.heads import Request
from registry_pipelines.registry.embedded.http_messages import Deadlines
from registry_pipelines.registry.embedded.responses import ApiError, Response
from registry_pipelines.registry.embedded.running import serve
from registry_pipelines.registry.embedded.server import EmbeddedServer, Exchange

__all__ = [
    "ApiError",
    "Collected",
    "Deadlines",
    "EmbeddedServer",
    "Exchange",
    "Request",
    "Response",
    "User",
    "serve",
]
