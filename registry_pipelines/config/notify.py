"""Who is told of what goes wrong, and how."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from registry_pipelines.settings import EMAIL, FILE, HOST, WEBHOOK, Duration, Secret

NotifyEvent = Literal["denied", "held", "failed", "vulnerable", "break-glass", "revoked", "run-failed", "stale"]
NOTIFY_EVENTS: tuple[NotifyEvent, ...] = (
    "denied",
    "held",
    "failed",
    "vulnerable",
    "break-glass",
    "revoked",
    "run-failed",
    "stale",
)
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Email(msgspec.Struct, frozen=True, kw_only=True):
    """A mail server that takes what is told as plain text."""

    host: Annotated[str, HOST]
    """The server, with its port: 587 with `starttls`, 465 with `tls`, 25 with `none` unless told."""
    sender: Annotated[str, EMAIL]
    """The address that it comes from."""
    to: tuple[Annotated[str, EMAIL], ...] = ()
    """Who gets all of it."""
    owners: bool = False
    """Also to the e-mail addresses that own what it is about (`dagster.owners`, `images.NAME.owners`)."""
    security: Literal["starttls", "tls", "none"] = "starttls"
    """How the server is spoken to; without either, only on this machine where there is a password."""
    username: str = ""
    """Name to log in with; nobody logs in unless told."""
    password: Secret = Secret("")
    """Its password, as `${VARIABLE}`."""
    ca_file: Annotated[Path, FILE] | None = None
    """Certificates that vouch for the server; those of the system unless told."""


class Notify(msgspec.Struct, frozen=True, kw_only=True):
    """Who is told of what does not go as it should; all ways may be written. A notification that fails is said, and
    changes nothing else."""

    command: tuple[str, ...] = ()
    """Program with its arguments, started without a shell in this file's folder; it gets the event as JSON on stdin."""
    webhook: Annotated[Secret, WEBHOOK] = Secret("")
    """Address that gets the same JSON by POST, as `${VARIABLE}`; redirects are not followed."""
    token: Secret = Secret("")
    """Sent to the webhook as bearer token, as `${VARIABLE}`."""
    slack: Annotated[Secret, WEBHOOK] = Secret("")
    """Address of an incoming webhook of Slack (or of what takes the same: Mattermost, Rocket.Chat), as `${VARIABLE}`;
    it gets a text."""
    email: Email | None = None
    """A mail server, and who gets mail."""
    events: tuple[NotifyEvent, ...] = NOTIFY_EVENTS
    """`denied`: the verdict is new and says no, or a promotion was refused. `held`: allowed, and waits for a person.
    `failed`: a stage ended with an error. `vulnerable`: new advisories speak against a release that was promoted.
    `break-glass`: a person lets one go against its policy. `revoked`: a person revoked one. `run-failed`: a run in
    Dagster failed of which nothing else tells: nightly work, a worker that was killed. `stale`: what is made by a
    schedule is older than it may be."""
    most_per_hour: Annotated[int, Meta(ge=1, le=10_000)] = 60
    """Notifications in an hour, of this machine or of all workers that share a state; the first one after that says how
    many were left out."""
    timeout: Duration = Duration(seconds=10)
    """How long each way may take."""

    @property
    def ways(self) -> bool:
        """Whether anybody is told anything."""
        return bool(self.way_count)

    @property
    def way_count(self) -> int:
        """In how many ways: as many problems mean that nobody was told."""
        return sum(map(bool, (self.command, self.webhook, self.slack, self.email)))


def problems(notify: Notify) -> Iterable[tuple[str, str]]:
    """What cannot work, or would send a secret in the clear: path and message."""
    yield from _webhooks(notify)
    if "" in notify.command[:1]:
        yield "notify.command", "names no program"
    email = notify.email
    if email is None:
        return
    if not email.to and not email.owners:
        yield "notify.email", "nobody gets it: write `to`, or `owners: true`"
    if bool(email.username) != bool(email.password):
        yield "notify.email", "`username` and `password` are written together or not at all"
    if email.password and email.security == "none" and urlsplit(f"//{email.host}").hostname not in LOOPBACK:
        yield "notify.email.password", "would be sent without TLS; write `security: starttls` or `tls`"


def _webhooks(notify: Notify) -> Iterable[tuple[str, str]]:
    token = notify.token
    for name in ("webhook", "slack"):
        try:
            address = urlsplit(getattr(notify, name).reveal())
        except ValueError:
            yield f"notify.{name}", "the host of the address is no IPv6 address"
            continue
        plain = address.scheme == "http" and address.hostname not in LOOPBACK
        if name == "slack" and plain:
            yield "notify.slack", "whoever reads the address may write there, and it would be sent without TLS"
        if name == "webhook" and token and not address.hostname:
            yield "notify.token", "is sent to `webhook`, and there is none"
        elif name == "webhook" and token and plain:
            yield "notify.token", "would be sent without TLS; the address of `webhook` begins with https:// then"


__all__ = ["NOTIFY_EVENTS", "Email", "Notify", "NotifyEvent", "problems"]
