"""Tell somebody that a release does not ship: a command that gets JSON on stdin, a webhook that gets it by POST.

Every notification of the command line and of Dagster's runs goes through :class:`Notifier`. The JSON is that of
:class:`Notice`, field by field. Neither address nor token of the webhook, nor what command and webhook answer, is
repeated anywhere: any of them may hold a secret.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit

import msgspec

from registry_pipelines.config.automation import NotifyEvent
from registry_pipelines.config.model import Config
from registry_pipelines.release import Release
from registry_pipelines.threads import Pool, started_child

MAX_REASONS = 50
"""Reasons in one notice; chat programs refuse long messages, and all of them stand in the verdict."""

JSON = "application/json"


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody is told, as the JSON object that command and webhook get."""

    event: NotifyEvent
    release: str
    """The release's key, ``image:tag@digest``."""
    image: str
    tag: str
    digest: str
    stage: str
    """Where it ended: ``judge``, ``promote``, ``replicate:<target>``, ..."""
    what: str
    """One sentence."""
    reasons: tuple[str, ...] = ()
    """One sentence each, the first ``MAX_REASONS``."""
    more_reasons: int = 0
    """How many are left out."""
    time: str
    """RFC 3339, UTC, whole seconds."""


class Notifier:
    """Tells what the configuration wants told, each thing once: a run that judges and is then refused the promotion,
    for the same reasons, tells one denial.

    Safe to use from many threads.
    """

    def __init__(self, config: Config) -> None:
        self._settings, self._folder = config.notify, config.path.parent
        self._told: set[tuple[str, str, str, tuple[str, ...]]] = set()

    def tell(
        self, event: NotifyEvent, release: Release, *, stage: str, what: str, reasons: Sequence[str] = ()
    ) -> list[str]:
        """Notify about a release; what went wrong with that, one sentence each. Raises nothing of its own."""
        key = (event, release.key, stage if event == "failed" else "", tuple(reasons))
        wanted = event in self._settings.events and (self._settings.command or self._settings.webhook)
        if not wanted or key in self._told:
            return []
        self._told.add(key)
        notice = Notice(
            event=event,
            release=release.key,
            image=release.image,
            tag=release.tag,
            digest=str(release.digest),
            stage=stage,
            what=what,
            reasons=tuple(reasons[:MAX_REASONS]),
            more_reasons=max(0, len(reasons) - MAX_REASONS),
            time=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        )
        body = msgspec.json.encode(notice)
        ways = [self._run] if self._settings.command else []
        ways += [self._post] if self._settings.webhook else []
        problems = [problem for way in ways if (problem := way(body))]
        if problems:
            self._told.discard(key)  # so that the next occasion is another chance
        return problems

    def _run(self, body: bytes) -> str:
        """Start the command; why that failed, empty when it did not."""
        pipe, null, limit = subprocess.PIPE, subprocess.DEVNULL, self._settings.timeout
        program = self._settings.command[0]
        try:
            with started_child(self._settings.command, cwd=self._folder, stdin=pipe, stdout=null, stderr=null) as child:
                child.communicate(body, timeout=limit.total_seconds())
                code = child.returncode
        except subprocess.TimeoutExpired:
            return f"the notification is not confirmed: {program} did not end within {limit}"
        except OSError as error:
            return f"nobody was notified: {program} cannot be started: {error.strerror}"
        return f"the notification may be lost: {program} ended with {code}" if code else ""

    def _post(self, body: bytes) -> str:
        """POST to the webhook; why that failed, empty when it did not."""
        from http.client import HTTPException  # nobody else needs it

        host, limit = urlsplit(self._settings.webhook.reveal()).hostname, self._settings.timeout
        pool = Pool(1, "webhook")  # a server that sends a byte now and then would outlast the socket's own time-out
        try:
            code = pool.submit(self._send, body).result(limit.total_seconds())
        except TimeoutError:
            return f"the notification is not confirmed: the webhook at {host} did not answer within {limit}"
        except (OSError, HTTPException, ValueError, OverflowError) as error:  # the last: a port above 65535
            reason = getattr(error, "reason", None)  # urllib wraps it; other texts may repeat the address
            cause = reason if isinstance(reason, OSError) else error
            why = cause.strerror if isinstance(cause, OSError) and cause.strerror else type(cause).__name__
            return f"nobody was notified: the webhook at {host} cannot be reached: {why}"
        finally:
            pool.stop()
        return f"nobody was notified: the webhook at {host} answered {code}" if code >= 300 else ""

    def _send(self, body: bytes) -> int:
        """The answer's status. Raises OSError, HTTPException, ValueError."""
        from urllib.error import HTTPError
        from urllib.request import HTTPRedirectHandler, Request, build_opener  # nobody else needs them

        class NoRedirect(HTTPRedirectHandler):
            """What was sent is for this address alone."""

            def redirect_request(self, *_: object) -> None:
                return None

        headers = {"Content-Type": JSON, "User-Agent": "registry-pipelines"}
        if token := self._settings.token.reveal():
            headers["Authorization"] = f"Bearer {token}"
        request = Request(self._settings.webhook.reveal(), body, headers, method="POST")
        try:
            with build_opener(NoRedirect).open(request, timeout=self._settings.timeout.total_seconds()) as answer:
                return int(answer.status)
        except HTTPError as error:
            with error:
                return error.code
