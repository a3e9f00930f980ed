"""``approve``: what people say about a release."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.output import show_result
from registry_pipelines.errors import InputError
from registry_pipelines.settings import Duration

if TYPE_CHECKING:
    from registry_pipelines.evidence.model import Signer

PASSWORD_VARIABLE = "REGISTRY_PIPELINES_KEY_PASSWORD"  # noqa: S105 - the variable's name


class Lasting(click.ParamType[Duration]):
    """``30d``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Duration:
        """See click."""
        if isinstance(value, Duration):
            return value
        try:
            return Duration.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command("approve")
@click.argument("release", shell_complete=IMAGES)
@click.option("--as", "capacity", metavar="NAME", help="As what you approve: an attestor's name (qa), or any word.")
@click.option("--note", default="", metavar="TEXT", help="What you looked at; it is signed, too.")
@click.option("--lasts", type=Lasting(), metavar="DURATION", help="How long it counts (30d); for ever unless told.")
@click.option("--withdraw", is_flag=True, help="Take back every approval that was given as NAME.")
@click.option("--list", "listed", is_flag=True, help="List who said what; sign nothing.")
@click.option("--by", metavar="NAME", help="Who you are; the account of this machine unless told.")
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"Your own private key; the configuration's of the person unless told. Its password: ${PASSWORD_VARIABLE}, "
    "or asked for.",
)
@common
def approve(
    options: Options,
    release: str,
    capacity: str | None,
    note: str,
    lasts: Duration | None,
    withdraw: bool,
    listed: bool,
    by: str | None,
    key: Path | None,
) -> None:
    """Approve a release as a person, or take that back: signed, attached to exactly this digest.

    RELEASE is image:tag, image@digest, its key, or the image alone when it has one release.
    """
    if listed == (capacity is not None):
        raise InputError(
            "--list lists all, and signs nothing" if listed else "--as is wanted: as what do you approve it?",
            do="Write --as qa, for example, or --list alone",
        )
    if lasts is not None and withdraw:
        raise InputError("a withdrawal does not end", do="Leave out --lasts")
    from registry_pipelines.promote.person import Person

    person = Person.named(by, "claimed") if by is not None else None
    with options.chain() as chain:
        wanted = chain.find_release(release)
        if capacity is None:
            result = chain.approvals(wanted)
        else:
            signer = _own_key(key) if key else None
            result = chain.approve(wanted, capacity, person, note=note, lasts=lasts, withdraw=withdraw, signer=signer)
    show_result(result, as_json=options.as_json)


def _own_key(path: Path) -> Signer:
    """A person's own key, with its password from the environment, or asked for where somebody can be asked."""
    from registry_pipelines.evidence.keys import load_signer

    password = os.environ.get(PASSWORD_VARIABLE, "")
    try:
        return load_signer(path, password)
    except InputError:
        if password or not path.is_file() or not sys.stdin.isatty():
            raise
    return load_signer(path, click.prompt(f"Password of {path}", hide_input=True, err=True))


COMMANDS = [approve]
