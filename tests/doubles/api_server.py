"""What a Kubernetes API server does with a webhook: changes an object by its patch, then asks whether it may be made.

By admission/v1 and the dispatchers of k8s.io/apiserver: POST with ``?timeout=``, over TLS that is trusted by the
``caBundle`` of the configuration; an answer must be of the same version and name the same ``uid``; anything else is a
failure, which ``failurePolicy`` decides about.
"""

from __future__ import annotations

import base64
import copy
import http.client
import json
import ssl
import uuid
from dataclasses import dataclass, field
from typing import Any

from tests.patience import patient

GROUPS = {
    "Pod": "",
    "PodTemplate": "",
    "ReplicationController": "",
    "Job": "batch",
    "CronJob": "batch",
    "Deployment": "apps",
    "ReplicaSet": "apps",
    "StatefulSet": "apps",
    "DaemonSet": "apps",
}


class WebhookFailed(Exception):
    """No answer that an API server takes."""


@dataclass
class Answered:
    """What became of a request. content: the object as it was made; None when it was refused."""

    allowed: bool
    message: str
    warnings: list[str]
    content: dict[str, Any] | None
    audit: dict[str, str] = field(default_factory=dict)


@dataclass
class ApiServer:
    """port: of the webhook on loopback. bundle: PEM of whom it trusts. mutating: whether a mutating webhook is there.
    timeout_s: of the webhook's configuration; an API server tells it to the webhook."""

    port: int
    bundle: bytes
    mutating: bool = False
    timeout_s: int = 30

    def __post_init__(self) -> None:
        self._tls = ssl.create_default_context(cadata=self.bundle.decode())
        self._tls.set_alpn_protocols(["h2", "http/1.1"])
        self._connection: http.client.HTTPSConnection | None = None

    def create(self, content: dict[str, Any], **more: Any) -> Answered:
        """Make an object."""
        return self.ask(content, operation="CREATE", **more)

    def ask(
        self,
        content: dict[str, Any] | None,
        *,
        operation: str,
        old: dict[str, Any] | None = None,
        group: str | None = None,
        resource: str = "",
    ) -> Answered:
        """Both phases of admission."""
        kind = (content or old or {}).get("kind", "Pod")
        request: dict[str, Any] = {
            "kind": {"group": GROUPS.get(kind, "") if group is None else group, "version": "v1", "kind": kind},
            "resource": {"group": "", "version": "v1", "resource": f"{kind.lower()}s"},
            "subResource": resource,
            "namespace": "apps",
            "operation": operation,
            "userInfo": {"username": "jane", "groups": ["system:authenticated"]},
            "oldObject": old,
            "dryRun": False,
            "options": None,
        }
        made = copy.deepcopy(content)
        if self.mutating:
            answer = self.post("/mutate", {**request, "object": made})
            for step in json.loads(base64.b64decode(answer.get("patch", b64("[]")))):
                assert answer["patchType"] == "JSONPatch" and step["op"] == "replace"
                _replace(made, step["path"], step["value"])
        answer = self.post("/validate", {**request, "object": made})
        status = answer.get("status", {})
        if not answer["allowed"]:
            assert (status["code"], status["reason"]) == (403, "Forbidden")
        return Answered(
            answer["allowed"],
            status.get("message", ""),
            answer.get("warnings", []),
            made if answer["allowed"] else None,
            answer.get("auditAnnotations", {}),
        )

    def post(self, path: str, request: dict[str, Any]) -> dict[str, Any]:
        """One review; its response. Raises WebhookFailed."""
        uid = str(uuid.uuid4())
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": uid, **request}}
        status, raw = self.send(path, json.dumps(review).encode())
        if status != 200:
            raise WebhookFailed(f"{status} {raw!r}")
        answer = json.loads(raw)
        if (answer.get("apiVersion"), answer.get("kind")) != ("admission.k8s.io/v1", "AdmissionReview"):
            raise WebhookFailed(f"not of the version that was sent: {raw!r}")
        response: dict[str, Any] = answer["response"]
        if response["uid"] != uid:
            raise WebhookFailed("an answer to another request")
        if not set(response) <= {"uid", "allowed", "status", "patch", "patchType", "auditAnnotations", "warnings"}:
            raise WebhookFailed(f"fields that admission/v1 does not have: {sorted(response)}")
        return response

    def send(self, path: str, raw: bytes, method: str = "POST") -> tuple[int, bytes]:
        """Bytes to the webhook over a connection that is kept, as an API server keeps it."""
        if self._connection is None:
            self._connection = http.client.HTTPSConnection(
                "127.0.0.1", self.port, context=self._tls, timeout=patient(60)
            )
        try:
            self._connection.request(
                method, f"{path}?timeout={self.timeout_s}s", raw, {"Content-Type": "application/json"}
            )
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except (http.client.HTTPException, OSError) as error:
            self.close()
            raise WebhookFailed(str(error)) from error

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _replace(content: Any, pointer: str, value: Any) -> None:
    """RFC 6902's replace."""
    *path, last = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    for part in path:
        content = content[int(part)] if isinstance(content, list) else content[part]
    if isinstance(content, list):
        content[int(last)] = value
    else:
        assert last in content
        content[last] = value
