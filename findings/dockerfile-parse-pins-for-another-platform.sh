#!/usr/bin/env bash
# Guess:   pinning bases with dockerfile-parse (read `parent_images`, set them with digests) changes the names of the images in the FROM lines,
#          and a name that holds an ARG is the one that a build takes.
# Happens: each FROM line is written anew without its `--platform`: a cross-build's compiler stage, pinned to the builder's platform, is built
#          for the target's from then on, and a stage that must be amd64 is what the builder is. Nothing is said. And of an ARG only
#          the plain forms are known: `python:${V:-3.12}` is read as the image `python::-3.12}`, with V=3.11 as `python:3.11:-3.12}`,
#          and an ARG that is made of another stays `python:$V-slim`: the mirror or the scan is then asked for images that do not exist.
# Version: dockerfile-parse 2.0.1 (PyPI). Date: 2026-11-30.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'dockerfile-parse==2.0.1'
venv/bin/python - <<'PY'
import io
from importlib.metadata import version

from dockerfile_parse import DockerfileParser

print("dockerfile-parse", version("dockerfile-parse"))
lines = "FROM --platform=$BUILDPLATFORM golang:1 AS build\nRUN make\nFROM --platform=linux/amd64 python:3\nCOPY --from=build /x /x\n"
parsed = DockerfileParser(fileobj=io.BytesIO(lines.encode()))
parsed.parent_images = [f"{image}@sha256:{'0' * 64}" for image in parsed.parent_images]
pinned = [line for line in parsed.content.splitlines() if line.startswith("FROM")]
print("was:", *[line for line in lines.splitlines() if line.startswith("FROM")], sep="\n  ")
print("pinned:", *pinned, sep="\n  ")
assert len(pinned) == 2 and all("@sha256:" in line and "--platform" not in line for line in pinned)
for lines, expected in (
    ("ARG V=3.11\nFROM python:$V\n", "python:3.11"),
    ("ARG V\nFROM python:${V:-3.12}\n", "python::-3.12}"),
    ("ARG V=3.11\nFROM python:${V:-3.12}\n", "python:3.11:-3.12}"),
    ("ARG V=3.11\nARG TAG=$V-slim\nFROM python:$TAG\n", "python:$V-slim"),
):
    image = DockerfileParser(fileobj=io.BytesIO(lines.encode())).baseimage
    print(repr(lines), "has the base", image)
    assert image == expected
PY
