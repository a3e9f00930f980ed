"""Lint of Dockerfiles and images: each rule with the file it is for and the one it is not for, lines with bytes, SARIF,
the command with its exit codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.anatomy.lint.commands import commands_of
from registry_pipelines.anatomy.lint.rules import lint_dockerfile
from registry_pipelines.anatomy.lint.stages import lineage
from registry_pipelines.build.dockerfile.parsing import parse_dockerfile
from registry_pipelines.errors import InputError
from registry_pipelines.scan.advice.document import Advice
from registry_pipelines.scan.advice.kinds import DOCKERFILE_RULES
from tests.scan.test_secrets import GITHUB, HF

PIN = "sha256:" + "0" * 64
HEAD = f"FROM python:3.12-slim@{PIN}\nUSER 65532\n"


def found(text: str, **more: Any) -> list[Advice]:
    return lint_dockerfile(lineage(parse_dockerfile(text)), **more)


def kinds(text: str) -> list[tuple[str, int]]:
    return [(each.kind, each.line) for each in found(text)]


@pytest.mark.parametrize(
    ("kind", "bad", "good"),
    [
        ("pip-keeps-cache", "RUN pip install -r r.txt", "RUN pip install --no-cache-dir -r r.txt"),
        ("pip-keeps-cache", "RUN python3 -m pip install -r r.txt", "ENV PIP_NO_CACHE_DIR=1\nRUN pip install -r r.txt"),
        (
            "pip-keeps-cache",
            "RUN /venv/bin/pip3 install -r r.txt",
            "RUN --mount=type=cache,target=/root/.cache/pip pip install -r r.txt",
        ),
        ("pip-keeps-cache", "RUN cd x && pip install -r r.txt", "RUN pip install -r r.txt && rm -rf /root/.cache"),
        ("uv-keeps-cache", "RUN uv sync --locked", "RUN uv sync --locked --no-cache"),
        (
            "uv-keeps-cache",
            "RUN uv pip install -r r.txt",
            "RUN --mount=type=cache,target=/root/.cache/uv uv pip install -r r.txt",
        ),
        ("conda-keeps-cache", "RUN conda env create -f e.yml", "RUN conda env create -f e.yml && conda clean -afy"),
        (
            "conda-keeps-cache",
            "RUN micromamba install -y numpy",
            "RUN micromamba install -y x && micromamba clean --all --yes",
        ),
        (
            "apt-keeps-lists",
            "RUN apt-get update && apt-get install -y --no-install-recommends curl",
            "RUN apt-get update && apt-get install -y --no-install-recommends curl && rm -rf /var/lib/apt/lists/*",
        ),
        (
            "apt-update-alone",
            "RUN apt-get update",
            "RUN apt-get update && apt-get install -y --no-install-recommends curl",
        ),
        ("apt-recommends", "RUN apt-get install -y curl", "RUN apt-get install -y --no-install-recommends curl"),
        ("apt-upgrade", "RUN apt-get update && apt-get -y upgrade", "RUN echo upgrade"),
        ("apk-keeps-cache", "RUN apk add curl", "RUN apk add --no-cache curl"),
        ("dnf-keeps-cache", "RUN dnf install -y curl", "RUN dnf install -y curl && dnf clean all"),
        ("npm-keeps-cache", "RUN npm ci", "RUN --mount=type=cache,target=/root/.npm npm ci"),
        (
            "no-cache-mount",
            "RUN pip install --no-cache-dir -r r.txt",
            "RUN --mount=type=cache,target=/root/.cache/pip pip install -r r.txt",
        ),
        (
            "unpinned-packages",
            "RUN pip install --no-cache-dir torch",
            "RUN pip install --no-cache-dir torch==2.5.1 -i https://h/",
        ),
        ("unpinned-packages", "RUN pip install --no-cache-dir torch", "RUN pip install --no-cache-dir torch -c c.txt"),
        (
            "compilers-last-stage",
            "RUN apt-get install -y --no-install-recommends build-essential git",
            "RUN apt-get install -y gcc && make && apt-get purge -y gcc",
        ),
        (
            "copy-before-install",
            "COPY . /app\nRUN pip install -r /app/requirements.txt",
            "COPY requirements.txt /app/\nRUN pip install -r /app/requirements.txt\nCOPY . /app",
        ),
        (
            "copied-wheels",
            "COPY dist/*.whl /wheels/\nRUN pip install /wheels/*.whl",
            "RUN --mount=type=bind,source=dist,target=/wheels pip install /wheels/*.whl",
        ),
        (
            "copied-wheels",
            "COPY --from=ghcr.io/o/w@" + PIN + " /wheels /wheels\nRUN pip install --no-index -f /wheels /wheels/a.whl",
            "COPY --from=ghcr.io/o/w@" + PIN + " /venv /venv\nRUN /venv/bin/pip check",
        ),
        ("removed-later", "COPY big.tar /tmp/\nRUN tar xf /tmp/big.tar\nRUN rm /tmp/big.tar", "RUN touch /x && rm /x"),
        ("removed-later", "RUN rm -rf /root/.cache", "RUN pip list && rm -rf /root/.cache"),
        ("chmod-after-copy", "COPY app /app\nRUN chmod -R 755 /app", "COPY --chmod=755 app /app\nRUN chmod 755 /other"),
        (
            "chmod-after-copy",
            "WORKDIR /srv\nCOPY run.sh .\nRUN chmod +x /srv/run.sh",
            "COPY run.sh /srv\nRUN chmod +x /usr/bin/x",
        ),
        ("add-url", "ADD https://h/x.bin /x", f"ADD --checksum={PIN} https://h/x.bin /x"),
        ("add-not-copy", "ADD run.py /", "ADD root.tar.gz /\nCOPY run.py /"),
        ("clone-keeps-git", "RUN git clone https://h/x /x", "RUN git clone https://h/x /x && rm -rf /x/.git"),
        ("secret-argument", "ARG HF_TOKEN", "ARG HF_HOME=/data"),
        ("secret-argument", "ENV DB_PASSWORD=zz1hunter2", "ENV DB_PASSWORD_FILE=/run/secrets/db"),
        ("secret-copied", "COPY .env /app/", "COPY .env.example ca.pem /app/"),
        ("secret-in-run", f"RUN hf download x --token {HF}", "RUN --mount=type=secret,id=hf hf auth whoami"),
        ("secret-in-run", "RUN DB_PASSWORD=zz1hunter2 make", 'RUN DB_PASSWORD="$(cat /run/secrets/db)" make'),
        (
            "index-credentials",
            "RUN pip install -r r.txt --index-url https://me:${PASS}@host/simple",
            "RUN pip install -r r.txt --index-url https://host/simple",
        ),
        (
            "download-piped",
            "RUN curl -LsSf https://h/install.sh | sh",
            "RUN curl -LsSf https://h/x -o x && sha256sum -c s",
        ),
        (
            "pipe-hides-failure",
            "RUN wget -O - https://h | wc -l",
            'SHELL ["/bin/bash", "-o", "pipefail", "-c"]\nRUN wget -O - https://h | wc -l',
        ),
        ("cd-is-lost", "RUN cd /app", "RUN cd /app && make"),
        ("relative-workdir", "WORKDIR app", "WORKDIR /srv\nWORKDIR app"),
        ("sudo", "RUN sudo make", "RUN make sudo"),
        ("shell-form", "CMD python main.py", 'CMD ["python", "main.py"]'),
        ("shell-form", "ENTRYPOINT python main.py", "ENTRYPOINT exec python main.py"),
        ("several-cmds", 'CMD ["a"]\nCMD ["b"]', 'CMD ["a"]'),
        ("weights-copied", "COPY model.safetensors /models/", "COPY tokenizer.json /models/"),
        ("weights-copied", "RUN huggingface-cli download meta/x", "RUN huggingface-cli version"),
    ],
)
def test_a_rule_speaks_where_it_should_and_is_silent_where_not(kind: str, bad: str, good: str) -> None:
    assert kind in {name for name, _ in kinds(HEAD + bad)}
    assert kind not in {name for name, _ in kinds(HEAD + good)}


def test_every_rule_has_a_file_it_is_for() -> None:
    marks = test_a_rule_speaks_where_it_should_and_is_silent_where_not.pytestmark  # type: ignore[attr-defined]
    shown = {each[0] for each in marks[0].args[1]}
    assert shown | {"not-pinned", "devel-last-stage", "no-user", "no-dockerignore"} == set(DOCKERFILE_RULES)


def test_bases_users_and_ignore_files(tmp_path: Path) -> None:
    assert ("not-pinned", 1) in kinds("FROM debian\n")
    assert [each.severity for each in found("FROM debian:12\n") if each.kind == "not-pinned"] == ["note"]
    assert [each.severity for each in found("FROM debian\n") if each.kind == "not-pinned"] == ["warning"]
    assert "not-pinned" not in dict(kinds(f"FROM debian:12@{PIN} AS a\nFROM a\nFROM scratch\n"))
    [devel] = [
        each for each in found("ARG V=12.4\nFROM nvidia/cuda:${V}-cudnn-devel-ubuntu22.04\n") if "devel" in each.kind
    ]
    assert devel.line == 2 and "nvidia/cuda:12.4-cudnn-runtime-ubuntu22.04" in devel.do
    assert "devel-last-stage" not in dict(kinds("FROM x:1-devel AS b\nFROM x:1-runtime\nCOPY --from=b /a /a\n"))
    assert ("no-user", 2) in kinds("FROM a:1\nRUN true\n") and ("no-user", 2) in kinds("FROM a:1\nUSER root\n")
    text = f"FROM a@{PIN}\nUSER 1\nCOPY . /app\n"
    assert [each.kind for each in found(text, context=tmp_path)] == ["no-dockerignore"]
    (tmp_path / ".dockerignore").write_text(".git\n")
    assert found(text, context=tmp_path) == []


def test_a_good_dockerfile_has_nothing_to_say(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_text(".git\n")
    text = f"""# syntax=docker/dockerfile:1
FROM python:3.12@{PIN} AS build
WORKDIR /src
RUN apt-get update && apt-get install -y build-essential
COPY requirements.txt .
RUN --mount=type=cache,target=/root/.cache/pip \\
    --mount=type=secret,id=netrc,target=/root/.netrc \\
    python -m venv /venv && /venv/bin/pip install --require-hashes -r requirements.txt
FROM python:3.12-slim@{PIN}
COPY --from=build /venv /venv
WORKDIR /app
COPY . .
USER 65532
ENTRYPOINT ["/venv/bin/python", "-m", "app"]
"""
    assert found(text, context=tmp_path) == []


def test_findings_stand_at_the_line_of_their_command() -> None:
    text = (
        HEAD + "RUN set -e \\\n    && apt-get update \\\n# why\n    && pip install \\\n       torch\n"
        "RUN <<EOF\ntrue\ncurl x | sh\nEOF\n"
    )
    told = dict(kinds(text))
    assert (told["apt-keeps-lists"], told["pip-keeps-cache"], told["download-piped"]) == (4, 6, 10)


def test_secrets_of_a_dockerfile_are_never_repeated() -> None:
    text = f"""FROM debian:12
ARG API_KEY=zz1hunter2
ENV GITHUB_TOKEN={GITHUB}
COPY x /x
RUN DB_PASSWORD=zz1hunter2 pip install x -i https://me:pa55word@host/simple && curl https://h?t={HF} | sh
RUN chmod 1 /x -H "Authorization: {GITHUB}"
"""
    shown = repr(found(text))
    assert "GITHUB_TOKEN" in shown
    for secret in ("zz1hunter2", "pa55word", GITHUB, HF):
        assert secret not in shown


def test_commands_are_taken_apart() -> None:
    run = lineage(parse_dockerfile("FROM a\nRUN A=1 sudo x -y 'a && b' | (cd /q; z) || w\n")).steps[0]
    told = [(each.words, each.before, each.into) for each in commands_of(run.instruction)]
    assert told == [
        (("x", "-y", "a && b"), ("A=1", "sudo"), "|"),
        (("cd", "/q"), (), ""),
        (("z",), (), ""),
        (("w",), (), ""),
    ]


WORDS = st.sampled_from(
    [
        "FROM a\n",
        "RUN ",
        "COPY ",
        "ADD ",
        "ENV A=",
        "ARG ",
        "pip install ",
        "apt-get update",
        " && ",
        " | ",
        "\\\n",
        "\n",
        '"',
        "'",
        "<<EOF\n",
        "EOF\n",
        "--from=a ",
        "--mount=type=cache,target=",
        ". ",
        "/app ",
        "$X",
        "[",
        "]",
        "rm ",
        "chmod ",
        "#",
        "CMD x\n",
    ]
)


@settings(max_examples=150, deadline=None)
@given(pieces=st.lists(st.one_of(WORDS, st.text(max_size=8)), max_size=40))
def test_whatever_parses_is_linted(pieces: list[str]) -> None:
    text = "FROM a\n" + "".join(pieces)
    try:
        parsed = parse_dockerfile(text)
    except InputError:
        return
    for each in lint_dockerfile(lineage(parsed)):
        assert 1 <= each.line <= text.count("\n") + 1 and each.kind in DOCKERFILE_RULES
