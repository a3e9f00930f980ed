"""The same families with programs that others wrote: what they bring has the digests that it has at the source."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from tests.doubles.families import FAMILIES, Family, FamilyServer
from tests.doubles.families.table import PEERS, Cell
from tests.families.content import SIGNED_TAG, closure_of, manifests_of, push_signed
from tests.patience import patient


@dataclass
class Shelf:
    """A family and an embedded registry, each with one signed index; and Docker's configuration for both."""

    family: Family
    server: FamilyServer
    plain: EmbeddedServer
    docker: Path

    def name(self, name: str) -> str:
        return self.family.repository.format(name=name)

    def wanted(self, program: str, role: str) -> set[str]:
        """What a program is to bring: an image with its platforms, oras the referrers too; none cosign's tags."""
        source = self.server.layout(self.name("signed")) if role == "source" else self.plain.store.layout("signed")
        if program != "oras":
            return closure_of(source, SIGNED_TAG)
        return manifests_of(source) - {
            str(found.digest) for tag, found in source.tags().items() if tag.endswith(".sig")
        }


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.name)
def shelf(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    family: Family = request.param
    folder = tmp_path_factory.mktemp(family.name)
    with (
        FamilyServer(family, folder / "family") as server,
        EmbeddedServer(folder / "plain", garbage_interval_s=None) as plain,
    ):
        found = Shelf(family, server, plain, folder / "docker")
        found.docker.mkdir()
        auth = base64.b64encode(":".join(family.user).encode()).decode() if family.user else ""
        auths = {server.address: {"auth": auth}} if family.user else {}
        (found.docker / "config.json").write_text(json.dumps({"auths": auths}))
        door = server.behind if family.read_only else server.address
        if family.needs_repositories:
            server.layout(found.name("signed")).create()
        user, word = family.user or ("", "")
        for client, name in (
            (DistributionRegistry(door, username=user, password=word), found.name("signed")),
            (DistributionRegistry(plain.address), "signed"),
        ):
            push_signed(Place(client, name))
            client.close()
        yield found


def command(program: str, shelf: Shelf, source: str, target: str) -> list[str]:
    """How each copies all platforms over plain HTTP."""
    if program == "crane":
        return ["copy", "--insecure", source, target]
    if program == "oras":
        return ["cp", "-r", "--from-plain-http", "--to-plain-http", "--no-tty", source, target]
    tls = ["--src-tls-verify=false", "--dest-tls-verify=false", "--authfile", str(shelf.docker / "config.json")]
    return [
        "--insecure-policy",
        "copy",
        "--all",
        "--preserve-digests",
        *tls,
        f"docker://{source}",
        f"docker://{target}",
    ]


@pytest.mark.peer(*PEERS)
@pytest.mark.parametrize("role", ["source", "target"])
@pytest.mark.parametrize("program", PEERS)
def test_other_programs_bring_the_same_digests(
    shelf: Shelf, program: str, role: str, peer: Callable[[str], str]
) -> None:
    family, plain = f"{shelf.server.address}/{shelf.name('')}", f"{shelf.plain.address}/"
    copied = f"{program}-{role}"
    if role == "source":
        source, target, layout = f"{family}signed", f"{plain}{copied}", shelf.plain.store.layout(copied)
    else:
        source, target, layout = f"{plain}signed", f"{family}{copied}", shelf.server.layout(shelf.name(copied))
        if shelf.family.needs_repositories:
            layout.create()
    done = subprocess.run(
        [peer(program), *command(program, shelf, f"{source}:{SIGNED_TAG}", f"{target}:{SIGNED_TAG}")],
        env={**os.environ, "DOCKER_CONFIG": str(shelf.docker)},
        capture_output=True,
        text=True,
        timeout=patient(120),
    )
    cell = shelf.family.peers.get(f"{role} {program}", Cell(""))
    if cell.error:
        assert done.returncode != 0 and cell.error in done.stderr, f"the table says that it cannot: {cell.why}"
        return
    assert done.returncode == 0, done.stderr
    brought, wanted = manifests_of(layout), shelf.wanted(program, role)
    assert brought > wanted if cell.lost else brought == wanted
