"""What engines would drop, ignore or read another way: the rows, and what the real engines do with each."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from registry_pipelines.build.dockerfile.model import BuildCacheRepository, BuildSecret, DockerfileSpec
from registry_pipelines.build.dockerfile.needs import Need, beyond_buildah, beyond_classic
from registry_pipelines.build.dockerfile.parsing import parse_dockerfile
from registry_pipelines.oci.platforms import Platform
from tests.build.dockerfile.kit import Kit
from tests.doubles.docker_daemon import Docker

HERE = Platform.parse("linux/amd64")
SHA = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def spec(**more: object) -> DockerfileSpec:
    return DockerfileSpec(name="x", version="1", context=Path(), **more)  # type: ignore[arg-type]


def classic(text: str, **more: object) -> list[str]:
    return [row(need) for need in beyond_classic(parse_dockerfile(text), spec(**more), HERE)]


def buildah(text: str, **more: object) -> list[str]:
    return [row(need) for need in beyond_buildah(parse_dockerfile(text), spec(**more))]


def row(need: Need) -> str:
    return f"{need.line} {need.what}"


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("FROM a\nRUN \\\n  --mount=type=cache,target=/x true\n", ["3 RUN --mount"]),
        ("FROM a\nCOPY --chown=1:1 --from=b a b\n", []),
        ("FROM a\nCOPY --link --exclude=x a b\n", ["2 COPY --link", "2 COPY --exclude"]),
        (f"FROM a\nADD --checksum=sha256:{SHA} http://x/y /z\n", ["2 ADD --checksum"]),
        ("FROM a\nADD http://x/y.tar /z\n", []),
        ("FROM a\nADD https://x/y.git#v1:docs /z\n", ["2 ADD https://x/y.git#v1:docs"]),
        ("FROM a\n# no\nRUN <<E\nE\n", ["3 RUN with a heredoc"]),
        ("FROM a\nONBUILD COPY <<E /x\nE\n", ["2 COPY with a heredoc"]),
        ("# syntax=docker/dockerfile:1\nFROM a\n", ["1 # syntax=docker/dockerfile:1"]),
        ("FROM a\nARG TARGETARCH\n", ["2 ARG TARGETARCH without default"]),
        ("FROM a\nARG TARGETARCH=amd64\n", []),
        ("ARG TARGETARCH=amd64\nFROM a\nARG TARGETARCH\n", []),
        ("FROM a-$TARGETARCH\n", ["1 FROM with $TARGETARCH"]),
        ("FROM --platform=$BUILDPLATFORM a\n", ["1 FROM --platform=$BUILDPLATFORM"]),
        ("FROM --platform=linux/amd64 a\n", []),
        ("FROM --platform=linux/arm64 a\n", ["1 FROM --platform=linux/arm64"]),
        ('FROM a\nRUN ["x", "y"] z\n', ["2 RUN with text behind its JSON form"]),
        ('FROM a\nRUN [ "$x" = y ] && z\nENV A=["a"] B=1\n', []),
    ],
)
def test_rows_of_the_classic_engine(text: str, rows: list[str]) -> None:
    assert classic(text) == rows


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("# syntax=docker/dockerfile:1.7\nFROM a\nRUN --mount=type=cache,target=/x <<E\ntrue\nE\n", []),
        ("# syntax=docker/dockerfile:1.7-labs\nFROM a\n", ["1 # syntax=docker/dockerfile:1.7-labs"]),
        ("# syntax=example.com/own\nFROM a\n", ["1 # syntax=example.com/own"]),
        ("FROM a\nRUN --security=insecure true\n", ["2 RUN --security"]),
        ("FROM a\nARG TARGETARCH=mine\n", ["2 ARG TARGETARCH with a default"]),
        ("FROM a\nARG TARGETARCH\n", []),
        ("FROM a\nENV B=${D:?no}\n", ["2 ${D:?...}"]),
        ("FROM a\nRUN echo ${D:?no}\n", []),
        ("FROM a\nRUN echo a\\\\\nRUN true\n", ["2 a line that ends with \\\\"]),
        ('FROM a\nRUN ["x", "y"] z\n', ["2 RUN with text behind its JSON form"]),
    ],
)
def test_rows_of_buildah(text: str, rows: list[str]) -> None:
    assert buildah(text) == rows


def test_rows_of_the_section() -> None:
    more = {"secrets": {"token": BuildSecret(env="TOKEN")}, "cache": BuildCacheRepository(repository="cache")}
    text = "FROM a\n"
    both = (HERE, Platform.parse("linux/arm64"))
    assert classic(text, **more, platforms=both) == [
        "0 secrets: token",
        "0 cache",
        "0 platforms: linux/amd64, linux/arm64",
    ]
    assert classic(text, platforms=(HERE,)) == []
    assert buildah(text, **more) == ["0 cache"]
    other = {"args": {"BUILDKIT_SYNTAX": "other/language:1"}}
    assert classic(text, **other) == buildah(text, **other) == ["0 args.BUILDKIT_SYNTAX"]
    given = parse_dockerfile("FROM a\nARG TARGETARCH\n", args={"TARGETARCH": "amd64"})
    assert beyond_classic(given, spec(args={"TARGETARCH": "amd64"}), HERE) == []


@pytest.mark.peer("dockerd", "docker", "busybox")
@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("RUN --mount=type=cache,target=/x true", "requires BuildKit"),
        ("RUN --network=none true", "Unknown flag: network"),
        ("COPY --chmod=700 a /a", "requires BuildKit"),
        ("COPY --link a /a", "Unknown flag: link"),
        ("COPY --exclude=b a /a", "Unknown flag: exclude"),
        ("RUN <<E\necho heredoc\nE", "unknown instruction: ECHO"),
        ('ARG TARGETARCH\nRUN echo "[$TARGETARCH]"', "\n[]\n"),
        ('RUN ["/bin/cat", "/proc/self/cmdline"] and more', "/bin/cat\0/proc/self/cmdline\0"),
    ],
    ids=lambda text: text.split("\n")[0][:24],
)
def test_what_docker_20_does_with_a_row(docker20: Docker, tmp_path: Path, lines: str, said: str) -> None:
    """It gives up, or makes another image without a word: in each case the table has it."""
    (tmp_path / "a").write_text("a")
    text = f"FROM base:1\n{lines}\n"
    (tmp_path / "Dockerfile").write_text(text)
    env = {**docker20.environment, "DOCKER_BUILDKIT": "0"}
    command = ["docker", "build", "--network=host", "--no-cache", str(tmp_path)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert said in done.stdout + done.stderr
    assert classic(text)


@pytest.mark.peer("../docker28/dockerd", "docker-buildx", "busybox")
@pytest.mark.parametrize(
    ("lines", "copied"),
    [
        ("RUN <<E\necho > /c/ran\nE", ["kept", "left"]),
        ("COPY --exclude=left . /there/", ["there/kept", "there/left"]),
    ],
    ids=["RUN", "COPY"],
)
def test_what_docker_28_does_without_a_word(
    kit: Kit, peer: Callable[[str], str], tmp_path: Path, lines: str, copied: list[str]
) -> None:
    (tmp_path / "kept").touch()
    (tmp_path / "left").touch()
    text = f"FROM {kit.base}\nCOPY kept left /c/\n{lines}\nRUN ls /c {'/there' if 'there' in lines else ''}\n"
    (tmp_path / "Dockerfile").write_text(text)
    env = {**os.environ, **kit.environment, "DOCKER_BUILDKIT": "0"}
    command = [peer("../docker28/docker"), "build", "--network=host", "--no-cache", str(tmp_path)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shown = done.stdout.splitlines()
    assert {Path(path).name for path in copied} <= set(shown) and "ran" not in shown
    assert classic(text)
