"""``runs``: what Dagster runs, asked and launched from any machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.output import console, print_lines, rows_table
from registry_pipelines.errors import InputError
from registry_pipelines.progress import size_text
from registry_pipelines.runs import asking
from registry_pipelines.runs.model import Run
from registry_pipelines.runs.server import Server
from registry_pipelines.settings import Secret

ADDRESS = "REGISTRY_PIPELINES_DAGSTER"
HERE = "http://127.0.0.1:3000"
MAX_CONFIG = 1 << 20
STATUSES = {
    "queued": ("QUEUED", "NOT_STARTED"),
    "running": ("STARTING", "STARTED", "CANCELING"),
    "succeeded": ("SUCCESS",),
    "failed": ("FAILURE",),
    "canceled": ("CANCELED",),
}


@click.group("runs", short_help="Launch runs in Dagster, and see what became of them.")
def runs() -> None:
    """Launch runs in Dagster, and see what became of them, through the webserver's API.

    --server is its address, or that of the proxy before it. A token of the proxy is taken from
    REGISTRY_PIPELINES_DAGSTER_TOKEN, a user and password from REGISTRY_PIPELINES_DAGSTER_USER and ..._PASSWORD; they
    are sent over TLS, or to this machine. Dagster need not be installed here.
    """


def _asks(command: Callable[..., None]) -> Callable[..., None]:
    """The options of who is asked."""
    ca = click.option("--ca-file", type=click.Path(path_type=Path), help="Certificates that vouch for the server.")
    at = click.option("--server", envvar=ADDRESS, default=HERE, metavar="URL", help=f"Its address; {HERE}. [{ADDRESS}]")
    return at(ca(command))


def _server(url: str, ca_file: Path | None) -> Server:
    def told(name: str) -> str:
        return os.environ.get(f"{ADDRESS}_{name}", "")

    return Server(
        url, token=Secret(told("TOKEN")), user=told("USER"), password=Secret(told("PASSWORD")), ca_file=ca_file
    )


@runs.command("list", short_help="List runs, the newest first.")
@click.option("--job", default="", metavar="JOB", help="Only of this job.")
@click.option("--status", type=click.Choice(list(STATUSES)), help="Only those.")
@click.option("--image", default="", metavar="IMAGE", help="Only about releases of this image.")
@click.option("--limit", type=click.IntRange(1, 500), default=20, help="Most runs; 20.")
@_asks
@common
def list_runs(
    options: Options, job: str, status: str | None, image: str, limit: int, server: str, ca_file: Path | None
) -> None:
    """List runs, the newest first, with how their releases ended."""
    tags = {"registry-pipelines/image": image} if image else {}
    statuses = STATUSES[status] if status else ()
    found = asking.runs(_server(server, ca_file), job=job, statuses=statuses, tags=tags, limit=limit)
    if options.as_json:
        print_json({"runs": [msgspec.to_builtins(each) for each in found]})
    else:
        console().print(rows_table([_row(each) for each in found], title="runs") if found else "no runs")


@runs.command("show", short_help="Show one run, and why it failed.")
@click.argument("run")
@_asks
@common
def show(options: Options, run: str, server: str, ca_file: Path | None) -> None:
    """Show one run, and why it failed.

    RUN: its id, or how it begins.
    """
    _say(options, asking.run(_server(server, ca_file), run))


@runs.command("launch", short_help="Launch a job, for a release where it is about one.")
@click.argument("job")
@click.argument("about", default="")
@click.option(
    "--run-config", type=click.Path(path_type=Path, dir_okay=False), help="YAML, as in the Launchpad; - is stdin."
)
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="A tag of the run.")
@click.option("--wait", is_flag=True, help="Wait until it ended, and end with how it did.")
@_asks
@common
def launch(
    options: Options,
    job: str,
    about: str,
    run_config: Path | None,
    tags: tuple[str, ...],
    wait: bool,
    server: str,
    ca_file: Path | None,
) -> None:
    """Launch a job, as the UI does.

    ABOUT: what it runs for: a release (image:tag, or its key), an image, a bucket. With --wait exit 3: a gate said no;
    1: the run failed, or somebody ended it.
    """
    where = _server(server, ca_file)
    found = asking.launch(where, job, about, config=_config(run_config), tags=dict(_tag(each) for each in tags))
    if wait:
        found = asking.waited(where, found, _silent if options.as_json else _status)
    _say(options, found)
    if wait and found.exit_code:
        sys.exit(found.exit_code)


def _silent(_: str) -> None:
    """With ``--json`` one document is printed."""


def _status(status: str) -> None:
    print_lines([status.lower()])


def _config(path: Path | None) -> Any:
    if path is None:
        return None
    import yaml

    try:
        with nullcontext(sys.stdin.buffer) if str(path) == "-" else path.open("rb") as file:
            raw = file.read(MAX_CONFIG + 1)
        if len(raw) > MAX_CONFIG:
            raise InputError(f"the run's config has more than {size_text(MAX_CONFIG)}", where=str(path))
        config = yaml.safe_load(raw.decode())
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError("the run's config cannot be read", where=str(path)) from error
    if config is not None and not isinstance(config, dict):
        raise InputError("the run's config is no mapping", where=str(path), do="Write it as in the Launchpad")
    return config


def _tag(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"{text[:80]!r} is no tag", do="Write KEY=VALUE")
    return key, value


def _say(options: Options, found: Run) -> None:
    if options.as_json:
        print_json({"run": msgspec.to_builtins(found)})
        return
    console().print(rows_table([_row(found)], title="run"))
    print_lines([*found.reasons, found.url])


def _row(found: Run) -> dict[str, str]:
    ends = found.ended or datetime.now(UTC).timestamp()
    took = f"{ends - found.started:.0f} s" if found.started else ""
    shown = msgspec.structs.asdict(found)
    began = datetime.fromtimestamp(found.created, UTC).strftime("%Y-%m-%d %H:%M:%S") if found.created else ""
    row = {name: str(shown[name]) for name in ("job", "partition", "outcome", "person") if shown[name]}
    return {"run": found.run[:8], "status": found.status.lower(), **row, "created": began, "took": took}


COMMANDS = [runs]
