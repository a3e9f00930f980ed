"""Plays a family: the embedded server behind the rows of its table, and the second host that some of them lead to."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from urllib.parse import urlencode

import msgspec

from registry_pipelines.errors import DigestInvalid, ReferenceInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layout import Layout
from registry_pipelines.oci.manifests import (
    Index,
    Manifest,
    encode_json,
    manifest_bytes,
    read_manifest,
)
from registry_pipelines.oci.media_types import OCI_INDEX
from registry_pipelines.registry.embedded import EmbeddedServer, Request, Response
from registry_pipelines.registry.embedded.application import Handler
from tests.doubles.families.elsewhere import Elsewhere, TokenService
from tests.doubles.families.table import (
    Act,
    AddFallbackTag,
    Answer,
    Ask,
    Change,
    Family,
    ForPlatform,
    HidePrefixed,
    ListTagged,
    Pages,
    Row,
    Signed,
    StuckRange,
    When,
)

ELSEWHERE_HOST = "127.0.0.2"
"""Another address than the registry's, so that whoever compares hosts only sees the difference."""

_ROUTES = (
    ("upload", re.compile(r"/v2/(?P<name>.+)/blobs/uploads/(?P<reference>[^/]+)\Z")),
    ("uploads", re.compile(r"/v2/(?P<name>.+)/blobs/uploads/?\Z")),
    ("blob", re.compile(r"/v2/(?P<name>.+)/blobs/(?P<reference>[^/]+)\Z")),
    ("manifest", re.compile(r"/v2/(?P<name>.+)/manifests/(?P<reference>[^/]+)\Z")),
    ("tags", re.compile(r"/v2/(?P<name>.+)/tags/list\Z")),
    ("referrers", re.compile(r"/v2/(?P<name>.+)/referrers/(?P<reference>[^/]+)\Z")),
    ("catalogue", re.compile(r"/v2/_catalog\Z")),
    ("ping", re.compile(r"/v2/?\Z")),
    ("token", re.compile(r"/token\Z")),
)
_ACTIONS = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}


@dataclass
class Call:
    """A request with what its path says."""

    request: Request
    route: str
    name: str = ""
    reference: str = ""

    @property
    def need(self) -> str:
        """What a token must be for."""
        if self.route == "catalogue":
            return "registry:catalog"
        return f"{self.name}:{_ACTIONS.get(self.request.method, 'push')}" if self.name else ""


def read_call(request: Request) -> Call:
    """Which route a request is for; ``other`` for none of the specification's."""
    for route, pattern in _ROUTES:
        found = pattern.match(request.path)
        if found:
            return Call(request, route, **found.groupdict())
    return Call(request, "other")


class FamilyServer:
    """``with FamilyServer(family, folder) as server: server.address``. hits: how often each row was played.

    watch: called with every request before it is answered.

    ``server.behind`` is the address of the same content without any deviation, to lay in what a read-only family has
    and to look at what a write really left.
    """

    def __init__(self, family: Family, root: Path) -> None:
        self.family = family
        self.hits: Counter[str] = Counter()
        self.watch: Callable[[Request], object] = lambda _: None
        self._guard = threading.Lock()
        self._ranges: dict[str, str] = {}
        self._pages: dict[str, str] = {}
        self._tokens = TokenService(family.user)
        self.second = Elsewhere(self._tokens, lambda: self._application)
        self._front = EmbeddedServer(root / "content", wrap=self._wrap, garbage_interval_s=None)
        self._behind = EmbeddedServer(root / "behind", wrap=lambda _: self._application, garbage_interval_s=None)
        self._elsewhere = EmbeddedServer(
            root / "elsewhere", host=ELSEWHERE_HOST, wrap=lambda _: self.second, garbage_interval_s=None
        )
        self._running = ExitStack()

    def __enter__(self) -> FamilyServer:
        for each in (self._front, self._behind, self._elsewhere):
            self._running.enter_context(each)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()

    @property
    def address(self) -> str:
        """The family's host and port."""
        return self._front.address

    @property
    def behind(self) -> str:
        """Host and port of the plain registry with the same content."""
        return self._behind.address

    def layout(self, repository: str) -> Layout:
        """The stored content of a repository."""
        return self._front.store.layout(repository)

    def _wrap(self, application: Handler) -> Handler:
        self._application = application
        return self._answer

    def _answer(self, request: Request) -> Response:
        self.watch(request)
        call = read_call(request)
        rows = [row for row in self.family.rows if _on(row.on, request.method, call.route)]
        for row in rows:
            if isinstance(row.then, Answer | Signed | Ask | ForPlatform) and self._holds(row.when, call, None):
                self._hit(row)
                if isinstance(row.then, Answer):
                    return self._made(row.then, call)
                if isinstance(row.then, Signed):
                    path = self.second.sign(replace(request))
                    return Response(row.then.status, [("Location", self._elsewhere.url + path)])
                self._rewrite(row, row.then, call)
        response = self._token(request) if call.route == "token" else self._application(request)
        for row in rows:
            if not isinstance(row.then, Answer | Signed | Ask | ForPlatform) and self._holds(row.when, call, response):
                changed = self._changed(row.then, call, response)
                if changed is not None:
                    self._hit(row)
                    response = changed
        return response

    def _token(self, request: Request) -> Response:
        return self._tokens.give(request)

    def _hit(self, row: Row) -> None:
        with self._guard:
            self.hits[row.name] += 1

    # Conditions

    def _holds(self, when: When, call: Call, response: Response | None) -> bool:
        return all(self._checks(when, call, response))

    def _checks(self, when: When, call: Call, response: Response | None) -> Iterator[bool]:
        request = call.request
        yield not when.query or when.query in request.query
        yield not when.without or when.without not in request.query
        if when.above:
            number = request.parameter(when.above[0])
            yield number.isdigit() and int(number) > when.above[1]
        if when.header:
            name, pattern = when.header
            value = request.headers.get(name.lower(), "")
            yield bool(re.search(pattern, value)) if pattern else not value
        yield not when.name or bool(re.fullmatch(when.name, call.name))
        yield not when.reference or bool(re.fullmatch(when.reference, call.reference))
        yield when.body_above is None or (request.body.length or 0) > when.body_above
        yield when.allowed is None or self._tokens.allows(request, call.need) == when.allowed
        yield when.status is None or (response is not None and response.status == when.status)
        if when.missing or when.type or when.taken or when.children:
            yield self._stored(when, call)

    def _stored(self, when: When, call: Call) -> bool:
        layout = self.layout(call.name)
        if when.missing == "repository":
            return not layout.exists()
        found = layout.find(call.reference) if layout.exists() else None
        if when.missing == "content":
            return found is None
        if when.type:
            return found is not None and bool(re.fullmatch(when.type, found.media_type))
        raw = _peek(call.request)
        if when.taken:
            return found is not None and ":" not in call.reference and found.digest != Digest.of(raw)
        content = read_manifest(raw)
        return isinstance(content, Index) and any(layout.find(one.digest) is None for one in content.manifests)

    # Acts

    def _made(self, then: Answer, call: Call) -> Response:
        body = then.body if isinstance(then.body, str) else json.dumps(then.body)
        headers = [(name, self._filled(value, call)) for name, value in then.headers.items()]
        if not isinstance(then.body, str) and "Content-Type" not in then.headers:
            headers.append(("Content-Type", "application/json"))
        raw = self._filled(body, call).encode()
        if call.request.method == "HEAD":
            return Response(then.status, headers, content_length=len(raw))
        return Response(then.status, headers, raw)

    def _filled(self, text: str, call: Call, *, location: str = "") -> str:
        values = {
            "location": location,
            "elsewhere": self._elsewhere.url,
            "here": call.request.base_url,
            "target": call.request.target,
            "rest": call.request.target.removeprefix("/v2"),
            "tail": call.request.target.removeprefix(f"/v2/{call.name}"),
            "project": call.name.partition("/")[0],
            "image": call.name.partition("/")[2],
            "repository": call.name,
            "reference": call.reference,
            "actions": {"pull": "pull", "push": "pull,push"}.get(call.need.rpartition(":")[2], "delete"),
        }
        return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), text)

    def _rewrite(self, row: Row, then: Ask | ForPlatform, call: Call) -> None:
        request, wanted = call.request, call.reference
        if isinstance(then, ForPlatform):
            wanted = self._for_platform(call, then.architecture)
        elif then.reference:
            wanted = re.sub(row.when.reference, then.reference, call.reference)
        request.path = request.path.removesuffix(call.reference) + wanted
        call.reference = wanted
        for name in then.drop if isinstance(then, Ask) else ():
            request.query.pop(name, None)

    def _for_platform(self, call: Call, architecture: str) -> str:
        layout = self.layout(call.name)
        found = layout.find(call.reference)
        manifest = layout.read_manifest(found) if found else None
        content = manifest.content() if manifest else None
        children = content.manifests if isinstance(content, Index) else ()
        named = [each.digest for each in children if each.platform and each.platform.architecture == architecture]
        return named[0] if named else call.reference

    def _changed(self, then: Act, call: Call, response: Response) -> Response | None:
        """The answer changed; None where there is nothing to change."""
        if isinstance(then, Change):
            return self._edited(then, call, response)
        if isinstance(then, StuckRange):
            return self._stuck(call, response)
        if isinstance(then, AddFallbackTag):
            return self._with_fallback_tag(call, response)
        if response.status != 200:
            return None
        if isinstance(then, Pages):
            return self._paged(then, call)
        if isinstance(then, HidePrefixed):
            return _without_prefixed(response)
        if isinstance(then, ListTagged):
            return self._with_tagged(call, response)
        raise AssertionError(then)

    def _edited(self, then: Change, call: Call, response: Response) -> Response:
        dropped = {name.lower() for name in (*then.drop, *then.set)}
        headers = [(name, value) for name, value in response.headers if name.lower() not in dropped]
        location = dict(response.headers).get("Location", "")
        headers += [(name, self._filled(value, call, location=location)) for name, value in then.set.items()]
        changed = replace(response, status=then.status or response.status, headers=headers)
        if then.body is not None:
            response.close_file()
            changed = replace(changed, body=self._filled(then.body, call).encode(), file=None, content_length=None)
        return changed

    def _stuck(self, call: Call, response: Response) -> Response | None:
        told = dict(response.headers).get("Range")
        if not told:
            return None
        first = told if call.request.method == "PATCH" else self._ranges.get(call.reference, told)
        kept = self._ranges.setdefault(call.reference, first)
        return replace(response, headers=[(k, kept if k == "Range" else v) for k, v in response.headers])

    def _with_fallback_tag(self, call: Call, response: Response) -> Response | None:
        layout = self.layout(call.name)
        stored = layout.find(call.reference) if response.status == 201 else None
        manifest = layout.read_manifest(stored) if stored else None
        subject = manifest.content().subject if manifest else None
        if subject is None:
            return None
        index = Index(schema_version=2, media_type=OCI_INDEX, manifests=tuple(layout.referrers(subject.digest)))
        layout.put_manifest(manifest_bytes(index), [subject.digest.fallback_tag])
        return response

    def _paged(self, then: Pages, call: Call) -> Response:
        layout = self.layout(call.name) if call.name else None
        names = sorted(layout.tags()) if layout else self._front.store.repositories()
        asked = call.request.parameter(then.token or "last")
        last = self._pages.get(asked, "") if then.token else asked
        rest = [name for name in names if name > last]
        wanted = call.request.parameter("n")
        size = min(then.size, int(wanted)) if wanted.isdigit() and int(wanted) else then.size
        page = rest[:size]
        document = {"name": call.name, "tags": page} if layout else {"repositories": page}
        headers = [("Content-Type", "application/json")]
        if len(page) < len(rest):
            mark = page[-1]
            if then.token:
                mark = Digest.of(page[-1].encode()).hex[:24]
                self._pages[mark] = page[-1]
            query = urlencode({"n": str(size), then.token or "last": mark})
            headers.append(("Link", f'<{call.request.path}?{query}>; rel="next"'))
        return Response(200, headers, json.dumps(document).encode())

    def _with_tagged(self, call: Call, response: Response) -> Response | None:
        layout = self.layout(call.name)
        try:
            signature = layout.find(f"{Digest.parse(call.reference).fallback_tag}.sig")
        except (DigestInvalid, ReferenceInvalid):
            return None
        index = read_manifest(response.body)
        if signature is None or not isinstance(index, Index):
            return None
        manifest = layout.read_manifest(signature)
        content = manifest.content() if manifest else None
        kind = content.config.media_type if isinstance(content, Manifest) else ""
        entry = msgspec.structs.replace(signature, artifact_type=kind)
        listed = Index(schema_version=2, media_type=OCI_INDEX, manifests=(*index.manifests, entry))
        return replace(response, body=encode_json(listed))


def _on(on: str, method: str, route: str) -> bool:
    methods, _, routes = on.partition(" ")
    return (methods == "*" or method in methods.split("|")) and (routes == "*" or route in routes.split("|"))


def _peek(request: Request) -> bytes:
    """The body of a manifest's PUT, left to be read again."""
    kept = getattr(request.body, "kept", None)
    if kept is None:
        kept = request.body.read(8 * 1024 * 1024) or b""
        request.body = _Kept(kept)  # type: ignore[assignment]
    return bytes(kept)


class _Kept:
    """A request's body that was read already."""

    def __init__(self, kept: bytes) -> None:
        self.kept = kept
        self.length = self.received = len(kept)
        self.finished = True

    def read(self, limit: int) -> bytes | None:
        return self.kept if len(self.kept) <= limit else None


def _without_prefixed(response: Response) -> Response | None:
    """As a walk over objects goes: a tag's own lie below ``<tag>/``; what begins with the tag and follows it is taken
    for one of them. ``-`` and ``.`` sort before the slash, so 0.1.2-slim comes before 0.1.2 and is listed."""
    document = json.loads(response.body)
    shown: list[str] = []
    last = None
    for tag in sorted(document["tags"], key=lambda tag: f"{tag}/"):
        if last is None or not tag.startswith(last):
            shown.append(tag)
            last = tag
    if len(shown) == len(document["tags"]):
        return None
    return replace(response, body=json.dumps({**document, "tags": shown}).encode())


__all__ = ["ELSEWHERE_HOST", "Call", "FamilyServer", "read_call"]
