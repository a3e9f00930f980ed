"""Upstreams with an open registry."""

from __future__ import annotations

from typing import Any

from registry_pipelines.mirror.model import Upstream
from registry_pipelines.mirror.upstreams import OpenUpstream
from registry_pipelines.registry.protocol import Place


def opened(source: Place, repository: str, **taken: Any) -> OpenUpstream:
    return OpenUpstream(source=source, repository=repository, settings=Upstream(image=source.repository, **taken))
