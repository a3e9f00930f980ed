"""An API server of Kubernetes as far as lists go: pages with continue tokens that expire, rights by account, objects as
``kubectl get -o json`` prints them. TLS and a client certificate, or a bearer token, as kubeconfig files have them.

Written from the API's conventions (Kubernetes documentation, "API Concepts"), not from a run of one.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.doubles.certificates import Certificates

LISTS = (
    "/api/v1/pods",
    "/api/v1/namespaces",
    "/api/v1/replicationcontrollers",
    "/api/v1/podtemplates",
    "/apis/apps/v1/deployments",
    "/apis/apps/v1/replicasets",
    "/apis/apps/v1/statefulsets",
    "/apis/apps/v1/daemonsets",
    "/apis/apps/v1/controllerrevisions",
    "/apis/batch/v1/jobs",
    "/apis/batch/v1/cronjobs",
)


@dataclass
class KubeCluster:
    """What it holds and how it behaves. objects: by the path of their list. token: that it takes; empty for any. page:
    objects in an answer at most. gone: continue tokens that are refused with 410, once each. fail: status by path."""

    objects: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {path: [] for path in LISTS})
    token: str = ""
    page: int = 1000
    gone: int = 0
    fail: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    address: str = ""

    def add(self, path: str, *objects: dict[str, Any]) -> None:
        """Objects of a list; its namespaces are there, too."""
        self.objects.setdefault(path, []).extend(objects)
        known = {each["metadata"]["name"] for each in self.objects["/api/v1/namespaces"]}
        for name in sorted({each["metadata"]["namespace"] for each in objects} - known):
            self.objects["/api/v1/namespaces"].append({"metadata": {"name": name}})

    def answer(self, target: str, authorization: str) -> tuple[int, dict[str, Any]]:
        """Status and document of a GET."""
        self.asked.append(target)
        parts = urlsplit(target)
        if self.token and authorization != f"Bearer {self.token}":
            return 401, _status("Unauthorized")
        if parts.path in self.fail:
            return self.fail[parts.path], _status(f'User "x" cannot list resource at {parts.path}')
        before, marker, rest = parts.path.partition("/namespaces/")
        if marker and "/" not in rest:
            there = any(each["metadata"]["name"] == rest for each in self.objects["/api/v1/namespaces"])
            return (200, {"kind": "Namespace"}) if there else (404, _status(f'namespaces "{rest}" not found'))
        namespace, _, plural = rest.partition("/")
        path = f"{before}/{plural}" if marker else parts.path
        if path not in self.objects:
            return 404, _status("the server could not find the requested resource")
        items = [each for each in self.objects[path] if not marker or each["metadata"]["namespace"] == namespace]
        return self._page(items, {key: values[0] for key, values in parse_qs(parts.query).items()})

    def change(self, target: str, headers: Any, body: bytes) -> tuple[int, dict[str, Any]]:
        """Status and document of a PATCH: nobody may."""
        return 405, _status("the server does not allow this method on the requested resource")

    def delete(self, target: str, headers: Any, body: bytes) -> tuple[int, dict[str, Any]]:
        """Status and document of a DELETE: nobody may."""
        return 405, _status("the server does not allow this method on the requested resource")

    def _page(self, items: list[dict[str, Any]], query: dict[str, str]) -> tuple[int, dict[str, Any]]:
        start = int(query.get("continue", "0"))
        if start and self.gone:
            self.gone -= 1
            return 410, _status("The provided continue parameter is too old")
        stop = start + min(int(query.get("limit", "500")), self.page)
        more = {"continue": str(stop), "remainingItemCount": len(items) - stop} if stop < len(items) else {}
        return 200, {"kind": "List", "metadata": {"resourceVersion": "1", **more}, "items": items[start:stop] or None}


def _status(message: str) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message}


@contextmanager
def serving(
    cluster: KubeCluster, certificates: Certificates, *, client_ca: Path | None = None
) -> Iterator[KubeCluster]:
    """Serve it on loopback with TLS. client_ca: whom a client's certificate must come from."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._say(*cluster.answer(self.path, self.headers.get("Authorization", "")))

        def do_PATCH(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._say(*cluster.change(self.path, self.headers, body))

        def do_DELETE(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._say(*cluster.delete(self.path, self.headers, body))

        def _say(self, status: int, document: dict[str, Any]) -> None:
            if not status:  # the connection ends without an answer
                self.close_connection = True
                return
            raw = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificates.certificate, certificates.key)
    if client_ca is not None:
        tls.load_verify_locations(client_ca)
        tls.verify_mode = ssl.CERT_REQUIRED
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    cluster.address = f"https://127.0.0.1:{server.server_address[1]}"
    try:
        yield cluster
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def workload(kind: str, name: str, *images: str, namespace: str = "ml") -> dict[str, Any]:
    """An object whose template of a pod has a container for each image."""
    spec = {"containers": [{"name": f"c{at}", "image": image} for at, image in enumerate(images)]}
    template: dict[str, Any] = {"template": {"spec": spec}}
    content: dict[str, Any] = {"spec": template}
    if kind == "CronJob":
        content = {"spec": {"suspend": True, "jobTemplate": {"spec": template}}}
    elif kind == "PodTemplate":
        content = template
    elif kind == "ControllerRevision":
        content = {"data": {"spec": {"template": {"$patch": "replace", "spec": spec}}}, "revision": 1}
    return {"metadata": {"name": name, "namespace": namespace}, **content}


def pod(name: str, image: str, image_id: str, *, namespace: str = "ml", phase: str = "Running", **more: Any) -> Any:
    """A pod with one container. more: of its spec or status."""
    status = {"phase": phase, "startTime": "2026-10-30T08:00:00Z"}
    if image_id:
        status["containerStatuses"] = [{"name": "main", "image": image, "imageID": image_id}]  # type: ignore[assignment]
    return {
        "metadata": {"name": name, "namespace": namespace, **more.pop("metadata", {})},
        "spec": {"containers": [{"name": "main", "image": image}], **more.pop("spec", {})},
        "status": {**status, **more.pop("status", {})},
    }
