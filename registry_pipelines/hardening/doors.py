"""What others reach: registries, and the admission webhook."""

from __future__ import annotations

import socket
import ssl
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from registry_pipelines.errors import RegistryPipelinesError, TlsFailed
from registry_pipelines.hardening.asking import Site
from registry_pipelines.hardening.model import Finding, broken, kept, unknown
from registry_pipelines.progress import count_text
from registry_pipelines.registry.client.origins import is_loopback

PROBE = "registry-pipelines/harden-check"
"""The repository that a stranger tries to begin an upload in; what is begun is cancelled, so nothing is left there."""
TIMEOUT_S = 5.0
LASTS_S = 14 * 24 * 3600.0
"""A certificate that ends sooner is replaced now: when it has ended, no pod starts."""


def examine_registry(name: str, address: str, *, plain: bool, ca: Path | None) -> Iterator[Finding]:
    """A registry as our clients reach it. address: host and port. plain: in HTTP."""
    where = f"registries.{name} ({address})"
    host = address.rpartition(":")[0] or address
    if not plain:
        yield kept("registry-tls", where, "in TLS")
    elif is_loopback(host):
        yield kept("registry-tls", where, "on this machine")
    else:
        do = "Give it a certificate (tls_cert and tls_key of an embedded one), and name its authority by ca_file"
        yield broken("registry-tls", where, "passwords and images travel as they are", do=do)
    yield _stranger(where, Site(f"{'http' if plain else 'https'}://{address}", ca))


def _stranger(where: str, site: Site) -> Finding:
    rule = "registry-login"
    try:
        answer = site.ask(f"/v2/{PROBE}/blobs/uploads/", method="POST", headers={"Content-Length": "0"})
    except TlsFailed as error:
        return unknown(rule, where, error.what, do="Name its authority by ca_file")
    except RegistryPipelinesError as error:
        return unknown(rule, where, error.what, do="Ask from where workers run")
    if answer.status == 202:
        _cancel(site, answer.headers.get("location", ""))
        do = "Give it accounts (users or htpasswd of an embedded one); reading may stay open by anonymous_pull"
        return broken(rule, where, "begins an upload for who did not log in", do=do)
    if answer.status in (401, 403, 405):
        return kept(rule, where, f"refuses a stranger's upload ({answer.status})")
    return unknown(rule, where, f"answers {answer.status} to a stranger's upload")


def _cancel(site: Site, location: str) -> None:
    path = urllib.parse.urlsplit(urllib.parse.urljoin(site.url, location))
    if path.netloc == site.parts.netloc and path.path.startswith("/v2/"):
        query = f"?{path.query}" if path.query else ""
        try:
            site.ask(f"{path.path}{query}", method="DELETE")
        except RegistryPipelinesError:
            return  # an open upload without content ends by itself


def examine_webhook(address: str, name: str, ca: Path | None) -> Finding:
    """The admission webhook. address: host and port to ask. name: of the certificate, as API servers ask for it. ca:
    PEM certificates that go into its configuration; the system's unless told."""
    rule, host, port = "webhook-tls", *_split(address)
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:
        do = "Name a file of PEM by admission.ca_file"
        return unknown(rule, address, f"{ca} cannot be read as certificates: {error.strerror or error}", do=do)
    try:
        with (
            socket.create_connection((host, port), TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=name) as connection,
        ):
            certificate = connection.getpeercert() or {}
    except ssl.SSLError as error:
        why = getattr(error, "verify_message", "") or error.reason or str(error)
        return broken(
            rule, address, f"TLS fails for {name}: {why}", do="Write its certificate anew (docs/admission.md)"
        )
    except (OSError, ValueError, OverflowError) as error:  # what is no name or port is no answer, too
        return unknown(rule, address, f"no answer: {error}", do="Ask from within the cluster")
    left_s = ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()
    days = count_text(int(max(0, left_s) / 86400), "day")
    if left_s < LASTS_S:
        do = "Replace it now; it is read again by itself"
        return broken(rule, address, f"its certificate ends in {days}", do=do)
    return kept(rule, address, f"its certificate is trusted, for {days}")


def examine_failure_policy(policy: str) -> Finding:
    """What starts while the webhook does not answer."""
    if policy == "Fail":
        return kept("webhook-closed", "admission.failure_policy", "Fail")
    do = "Write failure_policy: Fail, and run two webhooks"
    return broken("webhook-closed", "admission.failure_policy", "everything starts while it does not answer", do=do)


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return (host.strip("[]"), int(port)) if host and port.isdecimal() else (address, 443)


__all__ = ["examine_failure_policy", "examine_registry", "examine_webhook"]
