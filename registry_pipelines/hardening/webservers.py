"""Dagster's webservers, and the proxy that people come through."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from registry_pipelines.errors import InputError, RegistryPipelinesError, TlsFailed
from registry_pipelines.hardening.asking import Answer, Site
from registry_pipelines.hardening.model import Finding, broken, kept, unknown

HIDDEN_S = 3.0
"""What does not answer within this is taken for hidden: packets are dropped."""
ELSEWHERE = "https://elsewhere.invalid"
_PERMISSIONS = "{ permissions { permission value } }"
_INSTANCE = "{ instance { runQueuingSupported info } }"
"""The first makes the webserver load its queue, whose settings are not told before."""
_ASK_NAME = "{ version }"

_NAMES = re.compile(r"(?i)password|secret|token")
_IN_URL = re.compile(r"://[^\s:/@]*:(?!\*+@)[^\s@]+@")
MAX_SETTINGS = 10_000
"""Values among Dagster's settings."""


def examine_webserver(site: Site) -> Iterator[Finding]:
    """A webserver at its own address, asked from here. Raises InputError for what is none: nothing answers there."""
    try:
        answer = site.ask("/server_info", timeout_s=HIDDEN_S)
    except TlsFailed as error:
        yield unknown("webserver-hidden", site.url, error.what, do="Give its address as it listens: http://HOST:3000")
    except InputError:
        raise
    except RegistryPipelinesError:
        yield kept("webserver-hidden", site.url, "does not answer from here")
    else:
        yield broken(
            "webserver-hidden",
            site.url,
            f"answers ({answer.status}) to whoever comes from here, and believes each name that is sent to it",
            do="Let it listen where the proxy alone reaches it: an own network, a policy, -h 127.0.0.1 without workers",
        )


def examine_proxy(site: Site, reader: Mapping[str, str], *, person_header: str) -> Iterator[Finding]:
    """What people come through. reader: headers with which somebody is logged in who may only look, as
    ``{"Authorization": "Basic ..."}``; empty where nobody is given."""
    yield _tls(site)
    stranger = _asked(site, _PERMISSIONS, {person_header: "stranger@example.com"})
    if isinstance(stranger, str):
        yield unknown("proxy-login", site.url, stranger, do="Give the address that people open")
        return
    if stranger.status in (301, 302, 303, 307, 401, 403):
        yield kept("proxy-login", site.url, f"asks strangers to log in ({stranger.status})")
    elif stranger.status == 200:
        yield broken(
            "proxy-login", site.url, "answers questions without a login", do="Let the proxy ask for one on every path"
        )
    else:
        yield unknown("proxy-login", site.url, f"answers {stranger.status} to a stranger")
    yield _frame(site, reader)
    if not reader:
        for rule in ("readers-only-read", "proxy-origin", "names-by-proxy", "instance-secrets"):
            yield unknown(rule, site.url, "nobody is given who may look", do="Set REGISTRY_PIPELINES_READER")
        return
    yield _readers(site, reader)
    yield _origin(site, reader)
    yield from _instance(site, reader)


def _tls(site: Site) -> Finding:
    if not site.tls:
        do = "Give the proxy a certificate, and people its https address"
        return broken("proxy-tls", site.url, "passwords travel as they are", do=do)
    try:
        site.ask("/")
    except InputError:
        raise
    except TlsFailed as error:
        do = "Give it a certificate of a trusted authority for this name (--ca-file names your own)"
        return broken("proxy-tls", site.url, error.what, do=do)
    except RegistryPipelinesError as error:
        return unknown("proxy-tls", site.url, error.what)
    return kept("proxy-tls", site.url, "its certificate is trusted")


def _frame(site: Site, reader: Mapping[str, str]) -> Finding:
    try:
        headers = site.ask("/", headers=reader).headers
    except InputError:
        raise
    except RegistryPipelinesError as error:
        return unknown("proxy-frame", site.url, error.what)
    policy = headers.get("content-security-policy", "")
    own = re.search(r"frame-ancestors\s+('none'|'self')\s*(;|$)", policy)
    if own or headers.get("x-frame-options", "").upper() in ("DENY", "SAMEORIGIN"):
        return kept("proxy-frame", site.url, "says so in its headers")
    do = "Let the proxy add Content-Security-Policy: frame-ancestors 'none'"
    return broken("proxy-frame", site.url, "any host may show the pages in a frame, over which it leads clicks", do=do)


def _readers(site: Site, reader: Mapping[str, str]) -> Finding:
    answer = _asked(site, _PERMISSIONS, reader)
    found = None if isinstance(answer, str) else _data(answer, "permissions")
    if not isinstance(found, list) or not found:
        what = answer if isinstance(answer, str) else f"no list of permissions ({answer.status})"
        return unknown("readers-only-read", site.url, what, do="Log in as somebody who may look")
    may = sorted(str(each.get("permission")) for each in found if isinstance(each, dict) and each.get("value"))
    if may:
        return broken(
            "readers-only-read",
            site.url,
            f"who may only look may do {len(may)} things, as {', '.join(may[:3])}",
            do="Send readers to a webserver of their own: dagster-webserver --read-only",
        )
    return kept("readers-only-read", site.url, f"none of {len(found)} permissions")


def _origin(site: Site, reader: Mapping[str, str]) -> Finding:
    answer = _asked(site, _ASK_NAME, {**reader, "Origin": ELSEWHERE})
    if isinstance(answer, str):
        return unknown("proxy-origin", site.url, answer)
    if answer.status == 403:
        return kept("proxy-origin", site.url, "refuses requests that other hosts' pages send (403)")
    return broken(
        "proxy-origin",
        site.url,
        f"answers ({answer.status}) what a page of {ELSEWHERE} sends with somebody's login",
        do="Let the proxy refuse an Origin that is not its own",
    )


def _instance(site: Site, reader: Mapping[str, str]) -> Iterator[Finding]:
    answer = _asked(site, _INSTANCE, reader)
    instance = None if isinstance(answer, str) else _data(answer, "instance")
    text = instance.get("info") if isinstance(instance, dict) else None
    if not isinstance(text, str):
        what = answer if isinstance(answer, str) else f"its settings are not shown ({answer.status})"
        yield unknown("names-by-proxy", site.url, what)
        yield unknown("instance-secrets", site.url, what)
        return
    if re.search(r"module: dagster_project\.people\n\s*class: NamedByProxy", text):
        yield kept("names-by-proxy", site.url, "the queue notes the name that the proxy sends")
    elif re.search(r"^run_coordinator: NoneType$", text, re.MULTILINE):
        yield unknown("names-by-proxy", site.url, "the webserver does not say what its queue is")
    else:
        do = "Set run_coordinator to dagster_project.people.NamedByProxy in dagster.yaml (docs/dagster.md)"
        yield broken("names-by-proxy", site.url, "anybody may write any name at launch", do=do)
    if _has_password(text):
        do = "Take passwords from the environment: `password: {env: NAME}`"
        yield broken(
            "instance-secrets", site.url, "the page of the settings shows a password to all who may look", do=do
        )
    else:
        yield kept("instance-secrets", site.url, "none among the settings")


def _has_password(text: str) -> bool:
    """Whether Dagster's settings, as YAML, hold one; ``{env: NAME}`` is none. What cannot be read may."""
    import yaml

    try:
        waiting = [("", yaml.safe_load(text))]
    except yaml.YAMLError:
        return True
    for _ in range(MAX_SETTINGS):
        if not waiting:
            return False
        name, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(str(key), each) for key, each in value.items()]
        elif isinstance(value, list):
            waiting += [(name, each) for each in value]
        elif isinstance(value, str) and (_IN_URL.search(value) or (_NAMES.search(name) and value.strip("*"))):
            return True
    return True


def _asked(site: Site, query: str, headers: Mapping[str, str]) -> Answer | str:
    """The answer, or why there is none. Raises InputError for what cannot be sent."""
    try:
        return site.graphql(query, headers)
    except InputError:
        raise
    except RegistryPipelinesError as error:
        return error.what


def _data(answer: Answer, name: str) -> Any:
    said = answer.json()
    data = said.get("data") if isinstance(said, dict) else None
    return data.get(name) if isinstance(data, dict) else None


__all__ = ["examine_proxy", "examine_webserver"]
