"""``login`` and ``logout``: tried first, kept where the other programs read it too."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner

from registry_pipelines.chain import Chain
from registry_pipelines.chain.serving import ensure_registries
from registry_pipelines.cli import main
from registry_pipelines.config import load
from tests.answers import answered
from tests.chain.fleet import push
from tests.cli.test_bad_input import PROGRAM
from tests.ports import free_ports
from tests.terminal import typed

CONFIG = """
registries:
  tokens: {{kind: embedded, port: {0}, users: {{builder: "${{PW}}", me: "${{PW}}"}}, tokens: true}}
  basic: {{kind: embedded, port: {1}, users: {{builder: "${{PW}}", me: "${{PW}}"}}}}
  open: {{kind: embedded, port: {2}}}
  folder: {{kind: layout, root: folder}}
images:
  app: {{registry: tokens, repository: team/app}}
  tool: {{registry: basic, repository: team/tool}}
"""


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    path = tmp_path_factory.mktemp("fleet") / "registry-pipelines.yaml"
    path.write_text(CONFIG.format(*free_ports(3)))
    config = load(path, {"PW": "s3cret:ä"})
    with ensure_registries(config), ExitStack():
        chain = Chain(config)
        push(chain.place("app"), "v1", provenance=False)
        push(chain.place("tool"), "v1", provenance=False)
        yield chain


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Docker's file, in a folder of its own."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.delenv("DOCKER_AUTH_CONFIG", raising=False)
    monkeypatch.setenv("PW", "s3cret:ä")
    return tmp_path / "docker" / "config.json"


def run(chain: Chain, *arguments: str, given: str = "", code: int = 0) -> str:
    found = CliRunner().invoke(main, [*arguments, "--config", str(chain.config.path)], input=given)
    assert found.exit_code == code, found.output
    return found.output


@pytest.mark.parametrize(("name", "image"), [("tokens", "app"), ("basic", "tool")])
def test_a_login_serves_every_program(
    chain: Chain, docker: Path, name: str, image: str, peer: Callable[[str], str]
) -> None:
    place = chain.place(image)
    programs = (
        [peer("crane"), "digest", "--insecure", f"{place}:v1"],
        [peer("oras"), "manifest", "fetch", "--plain-http", f"{place}:v1"],
        [peer("skopeo"), "inspect", "--raw", "--tls-verify=false", f"docker://{place}:v1"],
    )
    assert all(subprocess.run(command, capture_output=True).returncode for command in programs)
    host = place.registry.name
    told = run(chain, "login", host, "-u", "me", "--password-stdin", "--json", given="s3cret:ä\n")
    assert (answered(told)["registry"], answered(told)["tried"]) == (host, True)
    for command in programs:
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    alone = CliRunner().invoke(main, ["inspect", f"{place}:v1", "--json"])
    assert alone.exit_code == 0, alone.output
    assert f"logged out of {host}" in run(chain, "logout", name)
    assert all(subprocess.run(command, capture_output=True).returncode for command in programs)


@pytest.mark.parametrize("name", ["tokens", "basic"])
def test_a_wrong_password_is_never_kept(chain: Chain, docker: Path, name: str) -> None:
    told = run(chain, "login", name, "-u", "me", "--password-stdin", given="wr0ng", code=5)
    assert "wr0ng" not in told and not docker.exists()


def test_a_registry_that_asks_nobody_is_told(chain: Chain, docker: Path) -> None:
    assert "was not tried" in run(chain, "login", "open", "-u", "me", "--password-stdin", given="any")


def test_a_file_that_not_all_programs_read_is_told(
    chain: Chain, docker: Path, monkeypatch: pytest.MonkeyPatch, peer: Callable[[str], str]
) -> None:
    file = docker.parents[1] / "auth.json"
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(file))
    told = run(chain, "login", "basic", "-u", "me", "--password-stdin", given="s3cret:ä")
    assert file.exists() and not docker.exists() and "docker and oras do not" in told
    place = chain.place("tool")
    crane = subprocess.run([peer("crane"), "digest", "--insecure", f"{place}:v1"], capture_output=True)
    oras = subprocess.run([peer("oras"), "manifest", "fetch", "--plain-http", f"{place}:v1"], capture_output=True)
    assert (crane.returncode, oras.returncode != 0) == (0, True)


def test_a_person_is_asked_and_the_password_not_shown(chain: Chain, docker: Path) -> None:
    host = chain.registry("basic").name
    command = [*PROGRAM, "login", host]
    code, screen = typed(command, [("User name:", "me\n"), ("Password:", "s3cret:ä\n")], cwd=str(docker.parents[1]))
    assert code == 0 and f"logged in to {host} as me" in screen and "s3cret" not in screen
    assert json.loads(docker.read_text())["auths"].keys() == {host}


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["login", "basic"], 8, "nobody can be asked here"),
        (["login", "basic", "--password-stdin"], 8, "nobody can be asked here"),
        (["login", "basic", "-u", "me", "--password-stdin"], 8, "the password is empty"),
        (["login", "basik", "-u", "me", "--password-stdin"], 8, "did you mean `basic`"),
        (["login", "ghcr.io/team", "-u", "me", "--password-stdin"], 8, "Write ghcr.io"),
        (["login", "https://me:s3cret@ghcr.io", "-u", "me", "--password-stdin"], 8, "Write the host alone"),
        (["logout", "me:s3cret@ghcr.io"], 8, "Write the host alone"),
        (["login", "folder", "-u", "me", "--password-stdin"], 8, "is a folder"),
        (["login", "basic", "-u", "me", "-p", "x"], 2, "No such option"),
        (["logout", "basic"], 0, "has no log-in for"),
    ],
)
def test_slips_are_told_and_nothing_is_written(
    chain: Chain, docker: Path, arguments: list[str], code: int, told: str
) -> None:
    said = run(chain, *arguments, code=code)
    assert told in said and "s3cret" not in said and not docker.exists()


def test_an_empty_file_is_one_without_logins(chain: Chain, docker: Path) -> None:
    """Docker reads it so; it is what a mount or ``touch`` leaves."""
    docker.parent.mkdir()
    docker.write_text("\n")
    run(chain, "login", "basic", "-u", "me", "--password-stdin", given="s3cret:ä")
    assert json.loads(docker.read_text())["auths"].keys() == {chain.registry("basic").name}


def test_links_in_a_circle_are_told(chain: Chain, docker: Path) -> None:
    docker.parent.mkdir()
    docker.symlink_to(docker)
    told = run(chain, "login", "basic", "-u", "me", "--password-stdin", given="s3cret:ä", code=8)
    assert "links to itself" in told and "s3cret" not in told
