"""What an embedded registry is asked, noted before it answers.

Its own ``on_exchange`` comes after the answer: who counts as soon as a client has that may be a request short, or find
one after the list was cleared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from registry_pipelines.registry.embedded.heads import Request
from registry_pipelines.registry.embedded.http_messages import BadRequest, BodyCut
from registry_pipelines.registry.embedded.http_server import Handler
from registry_pipelines.registry.embedded.responses import Response


@dataclass
class Asked:
    """A request. status: of the answer; 0 until there is one."""

    request: Request
    status: int = 0

    @property
    def method(self) -> str:
        return self.request.method

    @property
    def target(self) -> str:
        return self.request.target

    @property
    def bytes_in(self) -> int:
        """Of its content, so far."""
        return self.request.body.received


def noting(seen: list[Asked]) -> Callable[[Handler], Handler]:
    """For ``EmbeddedServer(wrap=...)``: requests go to the list, less those whose client was gone half way."""

    def wrap(handler: Handler) -> Handler:
        def noted(request: Request) -> Response:
            asked = Asked(request)
            seen.append(asked)
            try:
                response = handler(request)
            except (BadRequest, BodyCut, ConnectionError, TimeoutError):
                seen[:] = [each for each in seen if each is not asked]
                raise
            asked.status = response.status
            return response

        return noted

    return wrap


__all__ = ["Asked", "noting"]
