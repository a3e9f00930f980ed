#!/usr/bin/env bash
# Guess:   `login()` of the Python package `docker` has the daemon try the password, as `docker login` does, so what it returns was good.
# Happens: where config.json already has an entry of that user name for the registry, nobody is asked: any password "succeeds", and what
#          comes back is the stored entry. (No daemon listens here, so every real attempt ends with an error; `reauth=True` makes one.)
#          Nothing is ever written to config.json either, so a login that was tried is gone with the process.
# Version: docker 7.1.0 (PyPI). Date: 2026-11-28.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'docker==7.1.0'
mkdir "$folder/config"
export DOCKER_CONFIG=$folder/config
"$folder/venv/bin/python" - <<'PY'
import base64
import json
import os
from pathlib import Path

import docker
import requests

HOST = "registry.example.com"
file = Path(os.environ["DOCKER_CONFIG"], "config.json")
file.write_text(json.dumps({"auths": {HOST: {"auth": base64.b64encode(b"me:stored").decode()}}}))
before = file.read_bytes()


def attempt(username, **more):
    client = docker.APIClient("tcp://127.0.0.1:9", version="1.44")  # nothing listens there
    try:
        return client.login(username, "certainly wrong", registry=HOST, dockercfg_path=None, **more)
    except requests.exceptions.RequestException as error:
        return type(error).__name__


answers = {"same name": attempt("me"), "same name, reauth": attempt("me", reauth=True), "other name": attempt("you")}
print("docker", docker.__version__, answers)
assert answers["same name"]["password"] == "stored"
assert answers["same name, reauth"] == answers["other name"] == "ConnectionError"
assert file.read_bytes() == before
PY
