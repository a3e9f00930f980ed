"""Google's On-Demand Scanning: our own list of packages is sent, and compared there; no image is uploaded.

Source: the discovery document of ``ondemandscanning`` v1 (``scans.analyzePackages``, ``scans.vulnerabilities.list``,
``operations.get``). There is no Python client of it; the types of its answers are grafeas'.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from registry_pipelines.errors import Forbidden, RegistryError, Unauthorized, Unavailable
from registry_pipelines.registry.client.retries import Retries
from registry_pipelines.registry.client.translate import quote
from registry_pipelines.registry.gar.calls import ANSWER_S
from registry_pipelines.registry.gar.failures import translate
from registry_pipelines.scan.clouds.google import Occurrence
from registry_pipelines.scan.clouds.states import End
from registry_pipelines.scan.clouds.waiting import Waiting
from registry_pipelines.scan.report import Component

if TYPE_CHECKING:
    from registry_pipelines.registry.gar.access import GoogleAccess

ENDPOINT = "https://ondemandscanning.googleapis.com"
MAX_PAGES = 1000
_TYPES = {
    "deb": "OS",
    "apk": "OS",
    "rpm": "OS",
    "pypi": "PYPI",
    "npm": "NPM",
    "golang": "GO",
    "maven": "MAVEN",
    "nuget": "NUGET",
    "gem": "RUBYGEMS",
    "cargo": "RUST",
    "composer": "COMPOSER",
}
"""``PackageData.packageType`` of package URL types."""
_SYSTEMS = {"Debian": "debian:debian_linux", "Ubuntu": "canonical:ubuntu_linux", "Alpine": "alpine:alpine_linux"}
"""Vendor and product in the CPE of a distribution, by the name in OSV's ecosystem."""


def package_data(components: Iterable[Component]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """``PackageData`` of what lists name and can be compared there; and how many packages of a distribution cannot,
    because Google's name of it is not known here, by their type. Other kinds of packages are not sent."""
    sent: list[dict[str, Any]] = []
    left: dict[str, int] = {}
    for component in components:
        kind = _TYPES.get(component.type)
        system = _cpe(component.ecosystem) if kind == "OS" else ""
        if kind is None or not component.declared:
            continue
        if kind == "OS" and not system:
            left[component.type] = left.get(component.type, 0) + 1
            continue
        data: dict[str, Any] = {"package": component.name, "version": component.version, "packageType": kind}
        if system:
            data["cpeUri"] = system
            if component.source_name:
                source = {"name": component.source_name, "version": component.source_version or component.version}
                data["sourceVersion"] = source
                data["binaryVersion"] = {"name": component.name, "version": component.version}
        if component.locations:
            data["fileLocation"] = [{"filePath": path} for path in component.locations[:5]]
        sent.append(data)
    return sent, left


def _cpe(ecosystem: str) -> str:
    name, _, release = ecosystem.partition(":")
    return f"cpe:/o:{_SYSTEMS[name]}:{release.removeprefix('v')}" if name in _SYSTEMS and release else ""


class RestSession:
    """A session of requests that logs in, made as ``GoogleAccess`` makes clients."""

    def __init__(self, transport: Any) -> None:
        self.request = transport.request

    @staticmethod
    def get_transport_class(kind: str) -> Any:
        """See Google's clients. kind: does not matter."""
        from google.auth.transport.requests import AuthorizedSession

        return lambda credentials, host="", url_scheme="": AuthorizedSession(credentials)


class OnDemandScan:
    """Scans of one project. location: ``us``, ``europe`` or ``asia``, of a region its continent."""

    def __init__(self, access: GoogleAccess, project: str, location: str, *, retries: Retries | None = None) -> None:
        continent = location.partition("-")[0]
        self._parent = f"projects/{project}/locations/{continent if continent in ('us', 'europe', 'asia') else 'us'}"
        self._access, self._retries = access, retries or Retries()
        self._base = access.endpoint or ENDPOINT

    def ask(
        self, resource: str, packages: list[dict[str, Any]], waiting: Waiting
    ) -> tuple[list[Occurrence], End | None]:
        """The vulnerabilities that were found, and why they are not all there is. Raises the RegistryError family."""
        body = {"resourceUri": resource, "packages": packages}
        operation = self._call("POST", f"{self._parent}/scans:analyzePackages", resource, json=body)
        name = str(operation.get("name") or "")
        while not operation.get("done"):
            if not waiting.again():
                return [], End("pending", "the on-demand scan is under way")
            operation = self._call("GET", name, resource)
        if error := operation.get("error"):
            said = " ".join(str(error.get("message") or "").split())[:200]
            return [], End("incomplete", f"the on-demand scan failed ({said or error.get('code')})")
        scan = str((operation.get("response") or {}).get("scan") or "")
        if not scan.startswith("projects/"):
            return [], End("unreadable", "the on-demand scan names no result")
        return self._found(scan, resource), None

    def _found(self, scan: str, resource: str) -> list[Occurrence]:
        found: list[Occurrence] = []
        token = ""
        for _ in range(MAX_PAGES):
            query = {"pageSize": "1000", **({"pageToken": token} if token else {})}
            page = self._call("GET", f"{scan}/vulnerabilities", resource, params=query)
            found += page.get("occurrences") or ()
            token = str(page.get("nextPageToken") or "")
            if not token:
                return found
        raise RegistryError(f"the list of vulnerabilities has no end: {MAX_PAGES} pages", where=resource)

    def _call(self, verb: str, path: str, where: str, **values: Any) -> Mapping[str, Any]:
        attempt = 1
        while True:
            try:
                return self._once(verb, path, where, **values)
            except RegistryError as error:
                if not self._retries.wait(error, attempt):
                    raise
                attempt += 1

    def _once(self, verb: str, path: str, where: str, **values: Any) -> Mapping[str, Any]:
        doing = "scanning on demand"
        try:
            session = self._access.client(RestSession)
            url = f"{self._base}/v1/{path}"
            answer = session.request(verb, url, timeout=ANSWER_S, allow_redirects=False, **values)
            document = answer.json() if answer.status_code < 500 else {}
        except Exception as error:
            ours = translate(error, where=where, doing=doing)
            if isinstance(ours, RegistryError) and type(ours) is not RegistryError:
                raise ours from None
            raise Unavailable(f"{doing}: the answer is not Google's", where=where, do="Try again later") from None
        if answer.status_code == 200 and isinstance(document, dict):
            return document
        said = quote(str((document.get("error") or {}).get("message") or "")) if isinstance(document, dict) else ""
        status = answer.status_code
        kinds: dict[int, type[RegistryError]] = {401: Unauthorized, 403: Forbidden, 429: Unavailable}
        kind = kinds.get(status) or (Unavailable if status >= 500 else RegistryError)
        raise kind(
            f"{doing} was answered with {status}{f' ({said})' if said else ''}",
            where=where,
            do="Enable the On-Demand Scanning API, and give roles/ondemandscanning.admin" if status == 403 else "",
            status=status,
        )
