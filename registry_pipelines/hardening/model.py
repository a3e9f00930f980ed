"""The rules, and what was found of one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

Verdict = Literal["kept", "broken", "unknown"]

RULES: dict[str, str] = {
    "webserver-hidden": "nobody reaches a webserver but through the proxy",
    "proxy-login": "who does not log in sees nothing",
    "proxy-tls": "passwords and sessions travel in TLS, by a certificate that is trusted",
    "readers-only-read": "who may only look can launch and change nothing",
    "proxy-origin": "a page of another host launches nothing with somebody's login",
    "proxy-frame": "the pages are shown in no frame of another host",
    "names-by-proxy": "who lets a release go is named by the proxy, not by what was typed",
    "instance-secrets": "no password stands on the page of Dagster's settings",
    "broker-password": "the broker takes nothing without a password: who writes into it runs code on the workers",
    "broker-tls": "the broker's password travels in TLS, or on one machine",
    "database-password": "the database takes no password but its own",
    "database-role": "the workers' role may not change roles, databases and settings",
    "database-tls": "the database is reached in TLS with a certificate that is checked, or on one machine",
    "no-root": "workers do not run as root",
    "keys-private": "private keys are readable by their user alone",
    "keys-given": "no worker makes keys of its own where state is shared",
    "configuration-closed": "only its owner changes the configuration: it says whose keys are believed",
    "state-closed": "the state folder is closed to other users",
    "registry-tls": "registries beyond this machine are reached in TLS",
    "registry-login": "no registry takes an image from a stranger",
    "webhook-tls": "the admission webhook answers in TLS, by a certificate that the cluster trusts and that lasts",
    "webhook-closed": "what the webhook cannot answer does not start",
}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of a rule at one place. do: what to do, where it is not kept."""

    rule: str
    verdict: Verdict
    where: str
    what: str
    do: str = ""


def kept(rule: str, where: str, what: str) -> Finding:
    """It holds there."""
    return Finding(rule=rule, verdict="kept", where=where, what=what)


def broken(rule: str, where: str, what: str, *, do: str) -> Finding:
    """It does not."""
    return Finding(rule=rule, verdict="broken", where=where, what=what, do=do)


def unknown(rule: str, where: str, what: str, *, do: str = "") -> Finding:
    """It could not be looked at, which is no pass."""
    return Finding(rule=rule, verdict="unknown", where=where, what=what, do=do)


def worst(found: Iterable[Finding]) -> Verdict:
    """Of all of them; unknown where there is none."""
    verdicts = {each.verdict for each in found}
    return "broken" if "broken" in verdicts else "unknown" if "unknown" in verdicts or not verdicts else "kept"


__all__ = ["RULES", "Finding", "Verdict", "broken", "kept", "unknown", "worst"]
