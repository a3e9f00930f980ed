"""What a real BuildKit takes and refuses, through ``buildx build --print=targets``, which runs no step."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from registry_pipelines.build.dockerfile.parsing import parse_dockerfile
from tests.build.dockerfile.kit import Kit
from tests.build.dockerfile.test_parsing import WRONG

pytestmark = [pytest.mark.long, pytest.mark.peer("../docker28/dockerd", "docker-buildx", "busybox")]

STAGES = """\
ARG TAG=1
FROM scratch AS base
FROM base AS Wheels
# comment
COPY . /
FROM scratch
COPY --from=wheels \\
  / /
"""


def targets(kit: Kit, folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    (folder / "Dockerfile").write_text(text)
    command = [kit.buildx, "build", "--print=targets,format=json", str(folder)]
    env = {**os.environ, "BUILDX_EXPERIMENTAL": "1"}
    return subprocess.run(command, env=env, capture_output=True, text=True)


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[message[12:50] for _, message in WRONG])
def test_what_ours_refuses_buildkit_refuses_in_the_same_line(kit: Kit, tmp_path: Path, text: str, message: str) -> None:
    done = targets(kit, tmp_path, text)
    if not done.returncode:  # a list of stages needs no stage, and asks for no source
        assert text == "ARG a\n" or "--from=1" in text
        command = [kit.buildx, "build", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode and re.search("no stages to build|--from=1|invalid stage index|stage 1", done.stderr)
    elif line := re.search(r"parse error on line (\d+)", done.stderr):
        assert message.startswith(f"Dockerfile:{line[1]}:")
    else:
        assert "\nERROR: " in done.stderr


def test_stages_are_those_of_buildkit(kit: Kit, tmp_path: Path) -> None:
    done = targets(kit, tmp_path, STAGES)
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)["targets"]
    ours = parse_dockerfile(STAGES).stages
    assert [(each.get("name", ""), each.get("base", "")) for each in theirs] == [
        (stage.name, ours[stage.base_stage].name if stage.base_stage is not None else stage.image) for stage in ours
    ]
    lines = [each["location"]["ranges"][0]["start"]["line"] for each in theirs]
    assert lines == [stage.begin.line for stage in ours]
