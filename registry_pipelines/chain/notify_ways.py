"""The ways in which a notice reaches somebody: a command, a webhook, Slack, e-mail.

Each gives the reason why nobody was told, empty when somebody was. Texts from outside stand in a notice (names of tags,
errors of registries): Slack's own marks in them are written out, and a mail's subject is one line.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from registry_pipelines.chain.notify import Notice
from registry_pipelines.config.model import Config
from registry_pipelines.config.notify import Email, Notify
from registry_pipelines.settings import Secret
from registry_pipelines.threads import Pool, started_child

JSON = "application/json"
SHORTEST_SECRET = 4
"""Letters of a value that is looked for in texts; a shorter one stands in words by chance."""
MOST_TEXT = 3000
"""Letters of a message; chat programs cut or refuse longer ones, and all of it is where it happened."""
MOST_SUBJECT = 150
PORTS = {"starttls": 587, "tls": 465, "none": 25}


def send(settings: Notify, folder: Path, notice: Notice) -> list[str]:
    """Tell in every way; what went wrong, one sentence each. folder: where the command starts."""
    body = msgspec.json.encode(notice)
    problems = []
    if settings.command:
        problems.append(_run(settings, folder, body))
    if settings.webhook:
        problems.append(_post("the webhook", settings, settings.webhook, body, settings.token))
    if settings.slack:
        text = msgspec.json.encode({"text": _for_slack(text_of(notice))})
        problems.append(_post("Slack's webhook", settings, settings.slack, text, Secret("")))
    if settings.email:
        problems.append(_mail(settings, settings.email, notice))
    return [each for each in problems if each]


def text_of(notice: Notice) -> str:
    """A notice for people."""
    lines = [_subject(notice), *(f"- {each}" for each in notice.reasons)]
    lines += [f"and {notice.more_reasons} more"] if notice.more_reasons else []
    lines += [f"Owned by {', '.join(notice.owners)}."] if notice.owners else []
    lines += [notice.url] if notice.url else []
    if notice.left_out:
        lines.append(f"{notice.left_out} notifications before this one were left out (notify.most_per_hour).")
    text = "\n".join(lines)
    return text if len(text) <= MOST_TEXT else f"{text[: MOST_TEXT - 20]}\n(cut)"


def _subject(notice: Notice) -> str:
    name = f"{notice.image}:{notice.tag}" if notice.release else notice.stage
    return f"{notice.event}: {name}: {notice.what}"


def hider(config: Config) -> Callable[[str], str]:
    """Takes secrets out of a text: whatever looks like one, and every value that the configuration has as one."""
    from registry_pipelines.scan.redacting import HIDDEN, redacted  # its patterns are for those who tell somebody alone

    values = sorted({each for each in _secrets(config) if len(each) >= SHORTEST_SECRET}, key=len, reverse=True)
    known = re.compile("|".join(map(re.escape, values))) if values else None

    def hidden(text: str) -> str:
        return redacted(known.sub(HIDDEN, text) if known else text)

    return hidden


def _secrets(value: Any) -> Iterator[str]:
    """Every secret in a setting and below it."""
    if isinstance(value, Secret):
        yield value.reveal()
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from _secrets(getattr(value, name))
    elif isinstance(value, dict):
        for each in value.values():
            yield from _secrets(each)
    elif isinstance(value, tuple):
        for each in value:
            yield from _secrets(each)


def _run(settings: Notify, folder: Path, body: bytes) -> str:
    """Start the command; why that failed, empty when it did not."""
    pipe, null, limit = subprocess.PIPE, subprocess.DEVNULL, settings.timeout
    program = settings.command[0]
    try:
        with started_child(settings.command, cwd=folder, stdin=pipe, stdout=null, stderr=null) as child:
            child.communicate(body, timeout=limit.total_seconds())
            code = child.returncode
    except subprocess.TimeoutExpired:
        return f"the notification is not confirmed: {program} did not end within {limit}"
    except OSError as error:
        return f"nobody was notified: {program} cannot be started: {error.strerror}"
    return f"the notification may be lost: {program} ended with {code}" if code else ""


def _post(name: str, settings: Notify, address: Secret, body: bytes, token: Secret) -> str:
    """POST JSON; why that failed, empty when it did not."""
    from http.client import HTTPException  # nobody else needs it

    host, limit = urlsplit(address.reveal()).hostname, settings.timeout
    pool = Pool(1, "webhook")  # a server that sends a byte now and then would outlast the socket's own time-out
    try:
        code = pool.submit(_request, address, body, token, limit.total_seconds()).result(limit.total_seconds())
    except TimeoutError:
        return f"the notification is not confirmed: {name} at {host} did not answer within {limit}"
    except (OSError, HTTPException, ValueError, OverflowError) as error:  # the last: a port above 65535
        return f"nobody was notified: {name} at {host} cannot be reached: {_why(error)}"
    finally:
        pool.stop()
    return f"nobody was notified: {name} at {host} answered {code}" if code >= 300 else ""


def _why(error: BaseException) -> str:
    """The system's own words; other texts may repeat an address."""
    reason = getattr(error, "reason", None)  # urllib wraps it
    cause = reason if isinstance(reason, OSError) else error
    return cause.strerror if isinstance(cause, OSError) and cause.strerror else type(cause).__name__


def _request(address: Secret, body: bytes, token: Secret, timeout_s: float) -> int:
    """The answer's status. Raises OSError, HTTPException, ValueError."""
    from urllib.error import HTTPError
    from urllib.request import HTTPRedirectHandler, Request, build_opener  # nobody else needs them

    class NoRedirect(HTTPRedirectHandler):
        """What was sent is for this address alone."""

        def redirect_request(self, *_: object) -> None:
            return None

    headers = {"Content-Type": JSON, "User-Agent": "registry-pipelines"}
    if token:
        headers["Authorization"] = f"Bearer {token.reveal()}"
    request = Request(address.reveal(), body, headers, method="POST")
    try:
        with build_opener(NoRedirect).open(request, timeout=timeout_s) as answer:
            return int(answer.status)
    except HTTPError as error:
        with error:
            return error.code


def _for_slack(text: str) -> str:
    """Slack reads ``<!channel>`` and links in a text; nothing in ours is one."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _mail(settings: Notify, email: Email, notice: Notice) -> str:
    """Send a mail; why that failed, empty when somebody gets it."""
    import smtplib  # nobody else needs it

    owners = [each for each in notice.owners if not each.startswith("team:")] if email.owners else []
    recipients = list(dict.fromkeys([*email.to, *owners]))
    if not recipients:
        return ""
    host, limit = urlsplit(f"//{email.host}").hostname, settings.timeout
    pool = Pool(1, "mail")  # as above
    try:
        refused = pool.submit(_deliver, email, recipients, notice, limit.total_seconds()).result(limit.total_seconds())
    except TimeoutError:
        return f"the mail is not confirmed: {host} did not take it within {limit}"
    except smtplib.SMTPNotSupportedError:
        return f"nobody got mail: {host} does not offer what `notify.email` asks for (STARTTLS, a log-in)"
    except smtplib.SMTPRecipientsRefused:
        return f"nobody got mail: {host} took none of the recipients"
    except smtplib.SMTPResponseException as error:  # its text may repeat what was sent
        return f"nobody got mail: {host} answered {error.smtp_code}"
    except (OSError, ValueError, OverflowError) as error:
        return f"nobody got mail: {host} cannot be reached: {_why(error)}"
    finally:
        pool.stop()
    return f"{refused} of {len(recipients)} recipients were not taken by {host}" if refused else ""


def _deliver(email: Email, recipients: list[str], notice: Notice, timeout_s: float) -> int:
    """How many recipients the server did not take. Raises OSError, SMTPException."""
    import smtplib
    import ssl
    from email.message import EmailMessage

    message = EmailMessage()
    message["From"], message["To"] = email.sender, ", ".join(recipients)
    message["Subject"] = " ".join(_subject(notice).split())[:MOST_SUBJECT]
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nothing answers it by itself
    message.set_content(text_of(notice) + "\n")
    place = urlsplit(f"//{email.host}")
    host, port = place.hostname or "", place.port or PORTS[email.security]
    context = ssl.create_default_context(cafile=str(email.ca_file) if email.ca_file else None)
    client = (
        smtplib.SMTP_SSL(host, port, timeout=timeout_s, context=context)
        if email.security == "tls"
        else smtplib.SMTP(host, port, timeout=timeout_s)
    )
    with client:
        if email.security == "starttls":
            client.starttls(context=context)
        if email.username:
            client.login(email.username, email.password.reveal())
        return len(client.send_message(message))


__all__ = ["hider", "send", "text_of"]
