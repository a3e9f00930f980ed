"""What is looked for as a secret, and builds beside each other: the builder, with an engine that writes files."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

from registry_pipelines.build.dockerfile.builder import DockerfileBuilder
from registry_pipelines.build.dockerfile.engines.protocol import LAYOUT, Built, Found, Order, hidden
from registry_pipelines.build.dockerfile.engines.saved import save_as_layout
from registry_pipelines.build.dockerfile.inputs import secret_values
from registry_pipelines.build.dockerfile.logins import Login, docker_config
from registry_pipelines.build.dockerfile.model import BuildSecret, DockerfileSpec
from registry_pipelines.errors import BuildFailed, ContentError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.build.dockerfile.kit import project

PEM = """-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW
QyNTUxOQAAACDx1Zb8sXq7mXn0VdF5v3dFJmWqk1m2b7h0yXH3m4s0WAAAAJg
-----END OPENSSH PRIVATE KEY-----
"""
PIP = "# made by a program\n[global]\ntimeout = 60\nindex-url = https://ci:s3cr3t-w0rd@host/simple\n"
NETRC = "machine github.com\nlogin robot\npassword s3cr3t-w0rd\n"
TOKEN = 'p@ss<w&rd>"x-17'


class Writes:
    """An engine: its image has one file, and what is given in its config."""

    name = "buildah"

    def __init__(self, content: bytes, config: dict[str, object] | None = None) -> None:
        self.content, self.config = content, config or {}

    def find(self) -> Found:
        return Found(version="writes", buildkit=True)

    def build(self, order: Order) -> Built:
        layer = tar({"etc/conf": self.content})
        config = {"architecture": "amd64", "os": "linux", **self.config}
        config["rootfs"] = {"type": "layers", "diff_ids": [str(Digest.of(layer))]}
        manifest = [{"Config": "config.json", "Layers": ["layer.tar"]}]
        # As Go writes it.
        raw = json.dumps(config).replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e").encode()
        saved = tar({"manifest.json": json.dumps(manifest).encode(), "config.json": raw, "layer.tar": layer})
        save_as_layout([saved], order.folder / LAYOUT, order.folder, order.source_date)
        return Built(engine="writes", steps=())


def tar(files: dict[str, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return raw.getvalue()


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., object]:
    def build(secret: bytes, content: bytes, config: dict[str, object] | None = None) -> object:
        (tmp_path / "secret").write_bytes(secret)
        context = project(tmp_path / "context", "FROM scratch\nCOPY app.txt /\n")
        spec = DockerfileSpec(
            name="x", version="1", context=context, secrets={"key": BuildSecret(file=tmp_path / "secret")}
        )
        (tmp_path / "registry").mkdir(exist_ok=True)
        place = Place(LayoutRegistry(tmp_path / "registry"), "x")
        return DockerfileBuilder(tmp_path / "state", engines=[Writes(content, config)]).build(spec, place)

    return build


@pytest.mark.parametrize("user", ["", "u", "ci:", "robot:"])
def test_a_secret_in_base64_is_found_wherever_it_begins(build: Callable[..., object], user: str) -> None:
    """As ``docker login``, ``npm`` and headers have it."""
    with pytest.raises(ContentError, match="/etc/conf of layer"):
        build(TOKEN.encode(), b'{"auth": "%s"}' % base64.b64encode(f"{user}{TOKEN}".encode()))


@pytest.mark.parametrize(
    ("secret", "written"),
    [
        (TOKEN, f"https://ci:{quote(TOKEN, safe='')}@host/"),
        (TOKEN, json.dumps(TOKEN)),
        (PEM, "".join(PEM.splitlines(keepends=True)[1:2])),
        (PIP, "https://ci:s3cr3t-w0rd@host/simple".join(["index-url = ", "\n"])),
        (NETRC, "password s3cr3t-w0rd\n"),
    ],
)
def test_a_secret_in_another_form_is_found(build: Callable[..., object], secret: str, written: str) -> None:
    with pytest.raises(ContentError, match="/etc/conf of layer"):
        build(secret.encode(), written.encode())


@pytest.mark.parametrize("secret", [PEM, PIP, NETRC])
def test_lines_that_everybody_has_are_no_secret(build: Callable[..., object], secret: str, tmp_path: Path) -> None:
    """Libraries of cryptography have the first line of any key as a text, pip's documents have ``[global]``."""
    harmless = (
        "-----BEGIN OPENSSH PRIVATE KEY-----\nrubbish\n[global]\ntimeout = 60\n# made by a program\nlogin robot\n"
    )
    build(secret.encode(), harmless.encode())


def test_a_secret_that_is_no_text_is_found(build: Callable[..., object]) -> None:
    key = b"\x30\x82\x00\xff\xfe\nkey\x80\x81"
    with pytest.raises(ContentError, match="/etc/conf of layer"):
        build(key, b"before" + key + b"after")
    build(key, b"key\x80 and no more")


def test_a_secret_in_the_config_is_found_as_engines_write_it(build: Callable[..., object]) -> None:
    with pytest.raises(ContentError, match="the config of"):
        build(TOKEN.encode(), b"", {"config": {"Env": [f"TOKEN={TOKEN}"]}})


def test_a_log_shows_no_form_of_a_secret(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(TOKEN)
    spec = DockerfileSpec(
        name="x", version="1", context=tmp_path, secrets={"key": BuildSecret(file=tmp_path / "secret")}
    )
    encoded = base64.b64encode(f"ci:{TOKEN}".encode()).decode()
    shown = hidden(f"Authorization: Basic {encoded} {quote(TOKEN, safe='')} {TOKEN}", secret_values(spec))
    assert shown.count("***") == 3 and "p%40" not in shown and "p@ss" not in shown
    assert base64.b64encode(TOKEN.encode()[3:9]).decode()[:6] not in shown


class Looks(Writes):
    """An engine that says whether its folder is there, and fails."""

    def build(self, order: Order) -> Built:
        raise BuildFailed("there" if order.folder.is_dir() else "gone")


def test_builds_that_begin_at_once_do_not_remove_each_others_folders(tmp_path: Path) -> None:
    context = project(tmp_path / "context", "FROM scratch\nCOPY app.txt /\n")
    spec = DockerfileSpec(name="x", version="1", context=context)
    (tmp_path / "registry").mkdir()
    place = Place(LayoutRegistry(tmp_path / "registry"), "x")

    def one(_: int) -> str:
        try:
            DockerfileBuilder(tmp_path / "state", engines=[Looks(b"")]).build(spec, place)
        except BuildFailed as error:
            return error.what
        return "built"

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(one, range(160))) == {"there"}


def test_log_ins_of_a_killed_build_are_removed_by_the_next_one(tmp_path: Path) -> None:
    left = tmp_path / "build/logins/login-killed"
    left.mkdir(parents=True)
    (left / "login-host.json").write_text(TOKEN)
    (tmp_path / "own").mkdir()
    with docker_config([Login("host", "ci", TOKEN)], tmp_path / "build", tmp_path / "own") as first:
        assert not left.exists()
        with docker_config([Login("host", "ci", TOKEN)], tmp_path / "build", tmp_path / "own"):
            assert (first / "login-host.json").is_file()
    assert not list((tmp_path / "build/logins").iterdir())
