"""``harden-check``: whether a running deployment keeps the rules of docs/hardening.md."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.output import console, harmless
from registry_pipelines.errors import InputError

if TYPE_CHECKING:
    from registry_pipelines.hardening.model import Finding

READER_VARIABLE = "REGISTRY_PIPELINES_READER"
BROKER_VARIABLE = "REGISTRY_PIPELINES_BROKER"
DAGSTER_VARIABLE = "DAGSTER_POSTGRES_URL"
_WORDS = {"kept": "kept    ", "broken": "BROKEN  ", "unknown": "unknown "}
_STYLES = {"kept": None, "broken": "red", "unknown": "yellow"}
_CODES = {"kept": 0, "broken": 3, "unknown": 7}


@click.command("harden-check", short_help="Check that a running deployment is closed to those who may not come in.")
@click.option("--proxy", default="", metavar="URL", help="What people open, as https://pipelines.example.com.")
@click.option(
    "--webserver",
    "webservers",
    multiple=True,
    metavar="URL",
    help="A webserver's own address, which must not answer from here: http://HOST:3000.",
)
@click.option(
    "--ca-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Certificates to trust for the proxy, beside the system's.",
)
@click.option(
    "--person-header",
    default="X-Forwarded-User",
    show_default=True,
    metavar="NAME",
    help="The header in which the proxy names people.",
)
@click.option("--broker", metavar="URL", help=f"Redis of Celery's workers; {BROKER_VARIABLE} unless told.")
@click.option(
    "--database",
    "databases",
    multiple=True,
    metavar="VARIABLE",
    help=f"A variable of the environment with one more database's address; {DAGSTER_VARIABLE} where it is set.",
)
@click.option("--webhook", default="", metavar="HOST:PORT", help="The admission webhook, as it is reached from here.")
@common
def harden_check(
    options: Options,
    proxy: str,
    webservers: tuple[str, ...],
    ca_file: Path | None,
    person_header: str,
    broker: str | None,
    databases: tuple[str, ...],
    webhook: str,
) -> None:
    """Check that a running deployment is closed to those who may not come in: look at it as a stranger, and as somebody
    who may only look. Webservers and their proxy, the broker, databases, keys and folders of this machine, registries,
    the admission webhook. Run it where a worker runs, as the user that it runs as. Nothing is changed; at a registry an
    upload is begun and cancelled.

    REGISTRY_PIPELINES_READER in the environment is the header with which somebody is logged in who may only look:
    `Authorization: Basic ...`, or `Cookie: ...`.

    Exit 0: all that was looked at is kept. Exit 3: something is broken. Exit 7: nothing is, and something could not be
    looked at.
    """
    from registry_pipelines.chain.hardening import Deployment, examine
    from registry_pipelines.hardening.model import worst

    deployment = Deployment(
        webservers=webservers,
        proxy=proxy,
        reader=_reader(os.environ.get(READER_VARIABLE, "")),
        person_header=person_header,
        ca=ca_file,
        broker=os.environ.get(BROKER_VARIABLE, "") if broker is None else broker,
        databases=tuple(_variable(name) for name in databases or _known()),
        webhook=webhook,
    )
    found = list(_shown(options, examine(options.config(), deployment)))
    verdict = worst(found)
    if options.as_json:
        print_json({"verdict": verdict, "findings": [_row(each) for each in found]})
    else:
        counts = [f"{sum(each.verdict == word for each in found)} {word}" for word in _WORDS]
        console().print(", ".join(counts), markup=False)
    if code := _CODES[verdict]:
        sys.exit(code)


def _reader(text: str) -> dict[str, str]:
    if not text:
        return {}
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or any(letter in text for letter in "\r\n"):
        raise InputError(f"{READER_VARIABLE} is no header", do="Write for example `Authorization: Basic ...`")
    return {name.strip(): value.strip()}


def _known() -> list[str]:
    return [DAGSTER_VARIABLE] if os.environ.get(DAGSTER_VARIABLE) else []


def _variable(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise InputError(f"the environment has no {name}", do="Set it to postgresql://user:password@host/database")
    return re.sub(r"^(postgres(?:ql)?)\+psycopg2?:", r"\1:", value)  # as SQLAlchemy has it


def _shown(options: Options, found: Iterable[Finding]) -> Iterator[Finding]:
    for each in found:
        if not options.as_json:
            out = console()
            line = harmless(f"{_WORDS[each.verdict]}{each.rule}: {each.what} ({each.where})")
            out.print(line, markup=False, soft_wrap=True, style=_STYLES[each.verdict])
            if each.do:
                out.print(harmless(f"        do: {each.do}"), markup=False, soft_wrap=True)
        yield each


def _row(each: Finding) -> dict[str, str]:
    return {"rule": each.rule, "verdict": each.verdict, "where": each.where, "what": each.what, "do": each.do}


COMMANDS = [harden_check]
