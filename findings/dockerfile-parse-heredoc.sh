#!/usr/bin/env bash
# Guess:   a parser of Dockerfiles in the year 2026 reads a heredoc (`RUN <<EOF`, Dockerfile syntax 1.4 of 2022) as one
#          instruction, or says that it cannot.
# Happens: each line of the heredoc's body is an instruction of its own. A script that writes the words FROM or COPY becomes
#          a build stage: `parent_images` and `baseimage` then name something that is not an image of this build, and
#          whoever pins, scans or mirrors bases by them follows the wrong one.
# Version: dockerfile-parse 2.0.1. Date: 2026-11-28.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'dockerfile-parse==2.0.1'
cd "$folder"
venv/bin/python - <<'PY'
from importlib.metadata import version

from dockerfile_parse import DockerfileParser

parser = DockerfileParser()
parser.content = """FROM python:3.12-slim
RUN <<EOF
cat > /etc/motd <<TEXT
from the platform team
TEXT
EOF
CMD ["python3"]
"""
instructions = [one["instruction"] for one in parser.structure]
print("dockerfile-parse", version("dockerfile-parse"))
print("instructions: ", instructions)
print("parent images:", parser.parent_images, "base image:", parser.baseimage)
assert instructions == ["FROM", "RUN", "CAT", "FROM", "TEXT", "EOF", "CMD"]
assert parser.parent_images[0] == "python:3.12-slim" and len(parser.parent_images) == 2
PY
