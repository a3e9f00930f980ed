"""A command on a fleet's configuration, as tests of the command line call it."""

from __future__ import annotations

from typing import Any

from click.testing import CliRunner, Result

from registry_pipelines.cli import main
from tests.answers import answered
from tests.chain.fleet import Fleet


def run(fleet: Fleet, *arguments: str, code: int = 0) -> Result:
    """Run it in this process; it must end with ``code``."""
    result = CliRunner().invoke(main, [*arguments, "--config", str(fleet.path)])
    assert result.exit_code == code, result.output
    return result


def answer(fleet: Fleet, *arguments: str, code: int = 0) -> Any:
    """The result in its ``--json`` document, which is held against its schema."""
    return answered(run(fleet, *arguments, "--json", code=code).stdout)
