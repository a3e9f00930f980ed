"""The data plane of one location, ``LOCATION-docker.pkg.dev`` (or one of gcr.io's hosts): the family of Artifact
Registry (``families/artifact_registry``), with Google's log-in, over the repositories that the control plane has.

Refusals in its words (cloud.google.com, "Troubleshoot image push", "Denied"; the codes of deletes are Container
Registry's, which Artifact Registry kept).
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layout import Layout
from registry_pipelines.oci.manifests import Manifest, read_manifest
from registry_pipelines.registry.embedded import Request, Response
from registry_pipelines.registry.embedded.responses import error_response, json_response
from tests.doubles.families.artifact_registry import ARTIFACT_REGISTRY
from tests.doubles.families.elsewhere import TokenService
from tests.doubles.families.engine import Call, FamilyServer, _peek, read_call
from tests.doubles.families.table import Family
from tests.doubles.google.images import Held, Package, Repositories
from tests.doubles.google.world import Refusal, World

MAX_REQUEST_BYTES = 9_900_000_000
"""9.9 GB (cloud.google.com/artifact-registry/quotas, "Upload size"; read there as decimal)."""

_PERMISSIONS = {
    "pull": "artifactregistry.repositories.downloadArtifacts",
    "push": "artifactregistry.repositories.uploadArtifacts",
    "delete": "artifactregistry.repositories.deleteArtifacts",
}
_OTHERS = ("no-repository", "immutable")
"""Rows of the family that are patterns of names there; here the control plane knows."""


def _family(name: str) -> Family:
    rows = tuple(row for row in ARTIFACT_REGISTRY.rows if row.name not in _OTHERS)
    return replace(ARTIFACT_REGISTRY, name=name, rows=rows)


class _Tokens(TokenService):
    """Registry tokens for Google's access tokens."""

    def __init__(self, world: World) -> None:
        super().__init__(None)
        self._world = world
        self._held: dict[str, tuple[str, datetime]] = {}

    def give(self, request: Request) -> Response:
        """For anybody; but nobody's is good for nothing."""
        principal = ""
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            user, _, password = base64.b64decode(text).decode().partition(":")
            try:
                if user != "oauth2accesstoken":
                    raise Refusal("UNAUTHENTICATED", "unknown user name")
                principal = self._world.principal(password)
            except Refusal:
                return error_response(401, "UNAUTHORIZED", "authentication failed")
        token = secrets.token_hex(16)
        self._held[token] = (principal, self._world.now() + timedelta(seconds=300))
        return json_response({"token": token, "expires_in": 300})

    def holder(self, request: Request) -> str | None:
        """Who sends this request: empty for nobody, None for a token that is none or over."""
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            user, _, password = base64.b64decode(text).decode().partition(":")
            held = self._world.tokens.get(password) if user == "oauth2accesstoken" else None
            return held.principal if held and held.expires > self._world.now() else None
        held_here = self._held.get(text)
        return held_here[0] if held_here and held_here[1] > self._world.now() else None

    def allows(self, request: Request, need: str) -> bool:
        """What a token may do is asked of the control plane, so that a refusal is 403 and says why."""
        return self.holder(request) is not None


class DataPlane(FamilyServer):
    """``with DataPlane(world, folder, location="europe-west1") as plane: plane.address``.

    legacy: ``gcr.io`` or one of its like; then names are ``PROJECT/IMAGE``. taken: bytes of bodies by route.
    """

    def __init__(self, world: World, root: Path, *, location: str, legacy: str = "") -> None:
        super().__init__(_family(f"artifact-registry-{legacy or location}"), root)
        self.world, self.location, self.legacy = world, location, legacy
        self.max_request_bytes = MAX_REQUEST_BYTES
        self.taken: dict[str, int] = {}
        self._tokens: _Tokens = _Tokens(world)  # type: ignore[assignment]
        self.second._tokens = self._tokens

    def resource(self, name: str) -> tuple[str, str]:
        """(resource name of the repository, image) of a name on this host."""
        parts = name.split("/")
        if self.legacy:
            return f"projects/{parts[0]}/locations/{self.location}/repositories/{self.legacy}", "/".join(parts[1:])
        repository = parts[1] if len(parts) > 1 else ""
        return f"projects/{parts[0]}/locations/{self.location}/repositories/{repository}", "/".join(parts[2:])

    def content(self, repository: str, image: str) -> Layout | None:
        """The content of an image, where its repository is on this host."""
        _, project, _, location, _, last = repository.split("/")
        if location != self.location or (self.legacy and last != self.legacy):
            return None
        return self.layout(f"{project}/{image}" if self.legacy else f"{project}/{last}/{image}")

    def _answer(self, request: Request) -> Response:
        call = read_call(request)
        if not call.name or self._tokens.holder(request) is None:
            return super()._answer(request)
        refused = self._refused(call)
        if refused is not None:
            return refused
        resource, image = self.resource(call.name)
        with self.world.lock:
            held = self.world.state(Repositories).held[resource]
            before = dict(held.packages[image].tags) if image in held.packages else {}
        response = super()._answer(request)
        self.taken[call.route] = self.taken.get(call.route, 0) + request.body.received
        if call.route == "manifest" and request.method in ("PUT", "DELETE") and response.status < 300:
            self._follow(call, held, image, before)
        return response

    def _refused(self, call: Call) -> Response | None:
        request = call.request
        resource, image = self.resource(call.name)
        permission = _PERMISSIONS[call.need.rpartition(":")[2]]
        if not self._tokens.holder(request):
            return error_response(
                403,
                "DENIED",
                f'Unauthenticated request. Unauthenticated requests do not have permission "{permission}" on resource '
                f'"{resource}" (or it may not exist)',
            )
        try:
            self.world.may(permission, resource)
        except Refusal:
            return error_response(
                403, "DENIED", f'Permission "{permission}" denied on resource "{resource}" (or it may not exist)'
            )
        held = self.world.state(Repositories).held.get(resource)
        if held is None or not image:
            last = resource.rpartition("/")[2]
            return error_response(404, "NAME_UNKNOWN", f'Repository "{last}" not found')
        fault = self.world.take_fault(f"data:{request.method} {call.route}")
        if fault is not None:
            if fault.html:
                return Response(fault.html, [("Content-Type", "text/html")], b"<!DOCTYPE html><title>Error</title>")
            assert fault.refusal is not None
            headers = (("Retry-After", f"{fault.retry_after_s:g}"),) if fault.retry_after_s is not None else ()
            return error_response(429, "TOOMANYREQUESTS", fault.refusal.message, headers=headers)
        if (request.body.length or 0) > self.max_request_bytes:
            return Response(413, [("Content-Type", "text/html")], b"<title>413 Request Entity Too Large</title>")
        if call.route == "manifest" and request.method in ("PUT", "DELETE"):
            with self.world.lock:
                return self._manifest_refused(call, held, image)
        return None

    def _manifest_refused(self, call: Call, held: Held, image: str) -> Response | None:
        state = self.world.state(Repositories)
        package = held.packages.get(image) or Package(image, self.world.now(), self.world.now())
        is_digest = ":" in call.reference
        if call.request.method == "PUT":
            raw = _peek(call.request)
            missing = self._missing(call, raw)
            if missing:
                return error_response(400, "MANIFEST_BLOB_UNKNOWN", f"blob unknown to registry: {missing}")
            return (
                None if is_digest else _said(lambda: state.may_move(held, package, call.reference, str(Digest.of(raw))))
            )
        if not is_digest:
            return _said(lambda: state.may_untag(held, call.reference)) if call.reference in package.tags else None
        version = package.images.get(call.reference)
        if version is None:
            return None
        if version.tags:
            tags = ", ".join(sorted(version.tags))
            return error_response(
                400, "GOOGLE_MANIFEST_DANGLING_TAG", f"Manifest is still referenced by one or more tags: {tags}"
            )
        if parents := state.parents(package, call.reference):
            return error_response(
                400,
                "GOOGLE_MANIFEST_DANGLING_PARENT_IMAGE",
                f"Manifest is still referenced by one or more parent images: {', '.join(parents)}",
            )
        return None

    def _missing(self, call: Call, raw: bytes) -> str:
        try:
            content = read_manifest(raw)
        except Exception:  # what is no manifest is refused by the registry itself
            return ""
        if not isinstance(content, Manifest):
            return ""
        layout = self.layout(call.name)
        needed = [content.config, *content.layers]
        gone = [str(each.digest) for each in needed if not each.urls and layout.blob_size(each.digest) is None]
        return ", ".join(gone)

    def _follow(self, call: Call, held: Held, image: str, before: dict[str, str]) -> None:
        with self.world.lock:
            self.world.state(Repositories).take_over(held, image, self.layout(call.name), self.world.now())
            package = held.packages.get(image)
            after = dict(package.tags) if package else {}
        if call.request.method == "DELETE":
            digest = call.reference if ":" in call.reference else ""
            self.world.state(Repositories).tell("DELETE", held, image, digest, "" if digest else call.reference)
            return
        changed = [tag for tag in after if before.get(tag) != after[tag]]
        for tag in changed or [""]:
            found = after.get(tag) or (call.reference if ":" in call.reference else after.get(call.reference, ""))
            self.world.state(Repositories).tell("INSERT", held, image, found, tag)


def _said(check: Callable[[], None]) -> Response | None:
    try:
        check()
    except Refusal as refusal:
        return error_response(400, "MANIFEST_INVALID", refusal.message)
    return None


def message(held: Held, action: str, image: str, digest: str, tag: str) -> bytes:
    """A message of the topic ``gcr`` (cloud.google.com/artifact-registry/docs/configure-notifications)."""
    _, project, _, location, _, repository = held.settings.name.split("/")
    name = f"{location}-docker.pkg.dev/{project}/{repository}/{image}"
    document = {"action": action}
    if digest:
        document["digest"] = f"{name}@{digest}"
    if tag:
        document["tag"] = f"{name}:{tag}"
    return json.dumps(document).encode()


__all__ = ["MAX_REQUEST_BYTES", "DataPlane", "message"]
