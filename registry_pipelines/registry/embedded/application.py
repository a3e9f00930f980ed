"""From a request to an answer: routes, access, and the translation of every error into the specification's form."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from registry_pipelines.errors import ContentError, DigestMismatch, DiskFull, ManifestTooLarge, ReferenceInvalid
from registry_pipelines.registry.embedded.auth import DELETE, PULL, PUSH, Access, Gate
from registry_pipelines.registry.embedded.blobs import BlobHandlers
from registry_pipelines.registry.embedded.heads import Request
from registry_pipelines.registry.embedded.http_server import Handler
from registry_pipelines.registry.embedded.lists import ListHandlers
from registry_pipelines.registry.embedded.manifests import ManifestHandlers
from registry_pipelines.registry.embedded.responses import ApiError, Response, error_response, json_response
from registry_pipelines.registry.embedded.storage import Store, check_stored_name
from registry_pipelines.registry.embedded.uploads import SessionBusy, SessionOver, Uploads


@dataclass(frozen=True)
class _Route:
    pattern: re.Pattern[str]
    methods: dict[str, Callable[..., Response]]


_ACTIONS = {"GET": PULL, "HEAD": PULL, "DELETE": DELETE}


class Application:
    """The registry as a function of requests. Raises only what ends the connection (BodyCut, BadRequest, OSError)."""

    def __init__(self, store: Store, uploads: Uploads, gate: Gate, *, require_complete: bool) -> None:
        self._gate = gate
        blobs = BlobHandlers(store, uploads)
        manifests = ManifestHandlers(store, require_complete=require_complete)
        lists = ListHandlers(store)
        self._catalog = lists.catalog
        self._routes = (
            _Route(
                re.compile(r"/v2/(?P<name>.+)/blobs/uploads/(?P<session>[^/]+)\Z"),
                {"PATCH": blobs.patch, "PUT": blobs.put, "GET": blobs.status, "DELETE": blobs.cancel},
            ),
            _Route(re.compile(r"/v2/(?P<name>.+)/blobs/uploads/?\Z"), {"POST": blobs.begin}),
            _Route(
                re.compile(r"/v2/(?P<name>.+)/blobs/(?P<digest>[^/]+)\Z"),
                {"GET": blobs.get, "HEAD": blobs.get, "DELETE": blobs.delete},
            ),
            _Route(
                re.compile(r"/v2/(?P<name>.+)/manifests/(?P<reference>[^/]+)\Z"),
                {"GET": manifests.get, "HEAD": manifests.get, "PUT": manifests.put, "DELETE": manifests.delete},
            ),
            _Route(re.compile(r"/v2/(?P<name>.+)/tags/list\Z"), {"GET": lists.tags}),
            _Route(re.compile(r"/v2/(?P<name>.+)/referrers/(?P<digest>[^/]+)\Z"), {"GET": lists.referrers}),
        )

    def __call__(self, request: Request) -> Response:
        """Answer one request."""
        try:
            return self._dispatch(request)
        except ApiError as error:
            return error.response()
        except DiskFull as error:
            response = error_response(507, "INSUFFICIENT_STORAGE", f"{error.what}; nothing was stored")
            response.close = True
            return response
        except ManifestTooLarge as error:
            return error_response(413, "SIZE_INVALID", error.what)
        except DigestMismatch as error:
            return error_response(400, "DIGEST_INVALID", error.what)
        except ReferenceInvalid as error:
            return error_response(400, "NAME_INVALID", error.what)
        except SessionOver:
            return error_response(404, "BLOB_UPLOAD_UNKNOWN", "the upload is over; begin a new one")
        except SessionBusy:
            return error_response(409, "BLOB_UPLOAD_INVALID", "another request is writing to this upload")
        except ContentError as error:
            return error_response(500, "UNKNOWN", f"stored content is damaged: {error.what}")

    def _dispatch(self, request: Request) -> Response:
        path = request.path
        if path in ("/v2/", "/v2"):
            self._allow(request, ("GET", "HEAD"))
            self._gate.check(request, None)
            return json_response({})
        if path == "/token":
            self._allow(request, ("GET", "POST"))
            return self._gate.issue(request)
        if path == "/v2/_catalog":
            self._allow(request, ("GET",))
            self._gate.check(request, Access("registry", "catalog", "*"))
            return self._catalog(request)
        for route in self._routes:
            match = route.pattern.match(path)
            if match:
                return self._run(route, request, match.groupdict())
        raise ApiError(404, "UNSUPPORTED", "there is no such address; the registry is at /v2/")

    def _run(self, route: _Route, request: Request, parameters: dict[str, str]) -> Response:
        self._allow(request, tuple(route.methods))
        action = _ACTIONS.get(request.method, PUSH)
        if "session" in parameters:
            action = PUSH
        name = check_stored_name(parameters.pop("name"))  # before it gets into a challenge's header
        self._gate.check(request, Access("repository", name, action))
        source = request.parameter("from")
        if "mount" in request.query and not self._gate.covers(request, Access("repository", source, PULL)):
            del request.query[
                "mount"
            ]  # an ordinary upload instead, as the specification says for what cannot be mounted
        return route.methods[request.method](request, name, **parameters)

    def _allow(self, request: Request, methods: tuple[str, ...]) -> None:
        if request.method not in methods:
            allowed = (("Allow", ", ".join(methods)),)
            raise ApiError(405, "UNSUPPORTED", f"{request.method} is not possible here", headers=allowed)


__all__ = ["Application", "Handler"]
