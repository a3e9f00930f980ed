"""Two machines on one state: each has a folder of its own, and the same configuration, keys and database."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from registry_pipelines.chain import Chain
from registry_pipelines.cli import main
from registry_pipelines.config import Config, load
from registry_pipelines.shared.state import close_all
from tests.answers import document
from tests.chain.fleet import Fleet, start

SHARED = '\nshared: {database: "${STATE_DATABASE}"}\n'
MORE = """
retention: [{registry: us, keep_newest: 1, keep_days: 0}]
collect: {recent: 0h}
bases: {python: {registry: us, repository: bases/python, tag: '3'}}
report:
  audit:
    sources:
      hub: {kind: notifications, registry: us, listen: "127.0.0.1:0"}
"""


@dataclass(frozen=True)
class Machines:
    """fleet: running registries, with a state folder of its own, which shares nothing. url: of the database."""

    fleet: Fleet
    url: str

    def alone(self) -> Chain:
        """As before anything was shared."""
        return Chain(self.fleet.config)

    def config(self, name: str) -> Config:
        """Of one machine."""
        path = self.fleet.path.with_name("shared.yaml")
        path.write_text(self.fleet.path.read_text() + SHARED)
        config = replace(load(path, {"STATE_DATABASE": self.url}), state=self.fleet.folder / name)
        keys = self.fleet.config.state / "keys"
        if keys.is_dir() and not (config.state / "keys").exists():
            shutil.copytree(keys, config.state / "keys")
        return config

    def chain(self, name: str) -> Chain:
        """The chain of one machine."""
        return Chain(self.config(name))

    def run(self, *words: str, code: int = 0) -> Any:
        """A command where the fleet's own folder is, with the database: its result, or its error."""
        self.config("unused")
        done = CliRunner().invoke(
            main,
            [*words, "--json", "--config", str(self.fleet.path.with_name("shared.yaml"))],
            env={"STATE_DATABASE": self.url},
        )
        close_all()
        assert done.exit_code == code, done.output
        found = document(done.stdout)
        return found["error"] or found["result"]["results"][0]


@pytest.fixture
def machines(tmp_path: Path, postgres_url: str) -> Iterator[Machines]:
    with ExitStack() as stack:
        fleet = start(tmp_path, stack)
        fleet.path.write_text(fleet.path.read_text() + MORE)
        yield Machines(Fleet(fleet.path, load(fleet.path, {}), Chain(load(fleet.path, {}))), postgres_url)
