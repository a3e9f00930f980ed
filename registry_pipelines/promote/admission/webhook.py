"""The webhook that API servers ask: ``/validate`` and ``/mutate``, each with an AdmissionReview, over TLS."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from registry_pipelines.errors import InputError, ManifestInvalid
from registry_pipelines.progress import count_text
from registry_pipelines.promote.admission.judging import MARGIN_S, Decision, Judge
from registry_pipelines.promote.admission.model import MAX_TIMEOUT_S, MUTATE, VALIDATE, Admission
from registry_pipelines.promote.admission.review import MAX_REVIEW_BYTES, Request, read_review, write_answer
from registry_pipelines.registry.embedded import Deadlines, Exchange, Response
from registry_pipelines.registry.embedded import Request as HttpRequest
from registry_pipelines.registry.embedded.http_server import HttpServer

MAX_CONNECTIONS = 512
"""Each API server keeps a few dozen; more are let wait, and asked again."""

MAX_OF_PEER = 128
"""Of one address: a pod of the cluster that opens connections and sends nothing keeps no API server out."""
MAX_REFUSALS = 64
"""That are told of one object; the rest is counted. Users and audit logs get the message whole."""

_TIMEOUT = re.compile(r"([0-9]{1,2})s\Z")

Told = Callable[[Request, Decision], None]


class Webhook:
    """Answers the requests of an HTTP server. told: hears of each object that was judged, from many threads."""

    def __init__(self, judge: Judge, settings: Admission, told: Told | None = None) -> None:
        self._judge, self._settings, self._told = judge, settings, told

    def __call__(self, request: HttpRequest) -> Response:
        """An answer of 200 to every review that can be read, whatever it says; everything else fails at the API
        server, which then does as its ``failurePolicy`` says."""
        if request.path in ("/healthz", "/readyz") and request.method in ("GET", "HEAD"):
            return _text(200, "ok")
        if request.path not in (VALIDATE, MUTATE):
            return _text(404, f"reviews go to {VALIDATE} and {MUTATE}")
        if request.method != "POST":
            return _text(405, "a review is sent with POST")
        raw = request.body.read(MAX_REVIEW_BYTES)
        if raw is None:
            return _text(413, f"a review has at most {MAX_REVIEW_BYTES} bytes")
        try:
            asked = read_review(raw)
        except ManifestInvalid as error:
            return _text(400, str(error))
        wait_s = self._wait_s(request.parameter("timeout"))
        answer = self._mutated(asked, wait_s) if request.path == MUTATE else self._validated(asked, wait_s)
        return Response(200, [("Content-Type", "application/json")], answer)

    def _validated(self, asked: Request, wait_s: float) -> bytes:
        decision = self._judge.decide(asked, wait_s)
        if self._told is not None:
            self._told(asked, decision)
        lines = ["may not start:", *(str(each) for each in decision.refusals[:MAX_REFUSALS])]
        if (more := len(decision.refusals) - MAX_REFUSALS) > 0:
            lines.append(f"and {count_text(more, 'more image')}")
        message = "\n".join(lines)
        return write_answer(
            asked.uid,
            allowed=decision.allowed,
            message="" if decision.allowed else message,
            warnings=decision.warnings,
            audit=decision.audit,
        )

    def _mutated(self, asked: Request, wait_s: float) -> bytes:
        return write_answer(asked.uid, allowed=True, patch=self._judge.patch(asked, wait_s))

    def _wait_s(self, told: str) -> float:
        """How long the answer may take: an API server says in ``timeout`` how long it waits."""
        match = _TIMEOUT.match(told)
        seconds = min(int(match[1]), MAX_TIMEOUT_S) if match else self._settings.timeout.total_seconds()
        return max(0.5, seconds - MARGIN_S)


def server_of(
    settings: Admission, webhook: Webhook, on_exchange: Callable[[Exchange], None] | None = None
) -> HttpServer:
    """The webhook's server, not started. Raises InputError: it has no certificate."""
    if settings.tls_cert is None or settings.tls_key is None:
        raise InputError(
            "an API server asks by TLS alone, and the webhook has no certificate",
            where="admission",
            do="Name PEM files in admission.tls_cert and admission.tls_key",
        )
    return HttpServer(
        webhook,
        host=settings.host,
        port=settings.port,
        certificate=Path(settings.tls_cert),
        key=Path(settings.tls_key),
        deadlines=Deadlines(head_s=10.0, idle_s=120.0, stall_s=10.0),
        max_connections=MAX_CONNECTIONS,
        max_of_peer=MAX_OF_PEER,
        on_exchange=on_exchange,
    )


def _text(status: int, text: str) -> Response:
    return Response(status, [("Content-Type", "text/plain; charset=utf-8")], text.encode())


__all__ = ["MUTATE", "VALIDATE", "Webhook", "server_of"]
