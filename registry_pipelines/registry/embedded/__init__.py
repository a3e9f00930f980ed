"""A registry in this process: OCI distribution 1.1 over one OCI layout folder per repository.

For the demonstration, for ``serve`` and for tests; ``registry.layout`` shares its ``storage``. ``server`` is the
registry, ``http_server`` takes its connections (``server_tls``), ``http_messages``, ``heads`` and ``ranges`` read
requests, ``sending`` and ``responses`` answer.
``application`` routes to ``blobs``, ``manifests`` and ``lists``, after ``auth`` let the request pass. ``uploads`` keeps
open sessions, also over a restart; ``garbage`` frees what nothing refers to; ``running`` runs several servers until a
signal.
"""

from registry_pipelines.registry.embedded.auth import User
from registry_pipelines.registry.embedded.garbage import Collected
from registry_pipelines.registry.embedded.heads import Request
from registry_pipelines.registry.embedded.http_messages import Deadlines
from registry_pipelines.registry.embedded.http_server import Exchange
from registry_pipelines.registry.embedded.responses import ApiError, Response
from registry_pipelines.registry.embedded.running import serve
from registry_pipelines.registry.embedded.server import EmbeddedServer

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
