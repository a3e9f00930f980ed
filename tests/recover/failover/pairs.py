"""Two registries in this process, one of which stands in for the other, and what is put in their place."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from registry_pipelines.cli import main
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.copying import copy_closure
from tests.answers import answered
from tests.chain.fleet import push
from tests.doubles.certificates import Certificates

CONFIG = """\
registries:
  us: {{kind: distribution, host: "{us}"}}
  eu: {{kind: distribution, host: "{eu}"{more}}}
images:
  app: {{registry: us, repository: team/app, targets: [eu]}}
  tool: {{registry: us, repository: team/tool}}
targets: {{eu: {{registry: eu, prefix: replica}}}}
signing: {{generate: true}}
failover:
  prod:
    registries: [us, {{registry: eu, prefix: replica}}]
    health: {{timeout: {timeout}, failures: 2, pause: 10ms}}
"""


@dataclass
class Pair:
    """A registry and the one that stands in for it."""

    folder: Path
    us: str
    eu: str
    digest: Digest
    """Of `app`, which is at both."""

    @property
    def path(self) -> Path:
        return self.folder / "registry-pipelines.yaml"

    def place(self, name: str, repository: str) -> Place:
        """In the folder below a registry, past its server."""
        return Place(LayoutRegistry(self.folder / name), repository)

    def configure(self, text: str = CONFIG, **values: str) -> None:
        given = {"us": self.us, "eu": self.eu, "more": "", "timeout": "50s", **values}
        self.path.write_text(text.format(**given))

    def run(self, *words: str, code: int = 0) -> dict[str, Any]:
        ran = CliRunner().invoke(
            main, ["recover", "failover", *words, "--config", str(self.path), "--json"], env={"SECRET": "s3cret"}
        )
        assert ran.exit_code == code, (ran.output, ran.stderr)
        document = json.loads(ran.stdout)
        return dict(document["error"] if document["error"] else answered(ran.stdout))

    def look(self, *words: str, code: int = 0) -> dict[str, Any]:
        return self.run("--dry-run", *words, code=code)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Both have `app` as `prod`; `us` alone has `tool`, which no channel names."""
    source, target = (
        Place(LayoutRegistry(tmp_path / "us"), "team/app"),
        Place(LayoutRegistry(tmp_path / "eu"), "replica/team/app"),
    )
    made = push(source, "prod")
    copy_closure(source, "prod", [target])
    push(Place(LayoutRegistry(tmp_path / "us"), "team/tool"), "v1")
    with EmbeddedServer(tmp_path / "us") as us, EmbeddedServer(tmp_path / "eu") as eu:
        pair = Pair(tmp_path, us.address, eu.address, made.digest)
        pair.configure()
        yield pair


@contextmanager
def serving(pair: Pair, made: Certificates, **options: Any) -> Iterator[tuple[str, str]]:
    """`eu` with TLS: its address, and what the configuration says of whom to trust."""
    with EmbeddedServer(pair.folder / "eu", certificate=made.certificate, key=made.key, **options) as server:
        yield server.address, f', plain_http: false, ca_file: "{made.ca}"'


@contextmanager
def frozen() -> Iterator[str]:
    """Takes connections, and answers nothing: not even TLS."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def take() -> None:
            while True:
                try:
                    taken.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=take, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
    for each in taken:
        each.close()
