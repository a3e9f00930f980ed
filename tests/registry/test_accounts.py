"""Several accounts of one host: keys with a path, DOCKER_AUTH_CONFIG, files that complete each other."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import ConfigInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.client import DistributionRegistry, Retries
from registry_pipelines.registry.client.credentials import CredentialSource
from tests.doubles.exchanges import Answer, ExchangeServer, Expect

ONCE = Retries(attempts=1)
OK = Answer(200, body={"tags": ["v1"]})
DIGEST = Digest.of(b"content")


def entry(user: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:word".encode()).decode()}


def basic(user: str) -> dict[str, str]:
    return {"Authorization": f"Basic {entry(user)['auth']}"}


def auths(**users: str) -> str:
    return json.dumps({"auths": {key: entry(user) for key, user in users.items()}})


def written(path: Path, entries: dict[str, str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(auths(**entries))
    return path


PARTS = st.sampled_from(["a", "b", "ab", "c"])
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)


@settings(max_examples=200)
@given(keys=st.sets(PATHS), whole=st.booleans(), repository=PATHS)
def test_the_most_specific_key_is_used(keys: set[str], whole: bool, repository: str) -> None:
    """Against the rule as it stands in containers-auth.json(5)."""
    entries = {f"reg.example/{key}": key.replace("/", "-") for key in keys} | (
        {"reg.example": "whole"} if whole else {}
    )
    entries |= {"reg.example.other/a": "no", "reg.examp": "no", "other.example": "no"}
    source = CredentialSource("reg.example", environ={"DOCKER_AUTH_CONFIG": auths(**entries)})
    names = [f"reg.example/{repository}"]
    while "/" in names[-1]:
        names.append(names[-1].rpartition("/")[0])
    expected = next((entries[name] for name in names if name in entries), "")
    assert source.find(source.account(repository)).username == expected
    assert source.find(source.account("")).username == ("whole" if whole else "")


def test_docker_hub_has_paths_too(tmp_path: Path) -> None:
    path = written(tmp_path / "auth.json", {"docker.io/team": "team", "https://index.docker.io/v1/": "me"})
    source = CredentialSource("docker.io", docker_config=path)
    assert source.find(source.account("team/app")).username == "team"
    assert source.find(source.account("library/python")).username == "me"


def test_who_is_asked_first(tmp_path: Path) -> None:
    """The variable, then the files, each for what those before do not know; REGISTRY_AUTH_FILE stands alone."""
    docker = written(tmp_path / "docker" / "config.json", {"r": "docker", "r/a": "docker-a"})
    run = written(tmp_path / "run" / "containers" / "auth.json", {"r": "run", "r/b": "run-b"})
    kept = written(tmp_path / "settings" / "containers" / "auth.json", {"r/c": "kept-c", "r/b": "kept-b"})
    environ = {
        "DOCKER_CONFIG": str(docker.parent),
        "XDG_RUNTIME_DIR": str(run.parents[1]),
        "XDG_CONFIG_HOME": str(kept.parents[1]),
    }

    def user(repository: str, **more: str) -> str:
        source = CredentialSource("r", environ={**environ, **more})
        return source.find(source.account(repository)).username

    assert [user(one) for one in ("a/x", "b", "c", "d")] == ["docker-a", "run-b", "kept-c", "docker"]
    assert user("d", DOCKER_AUTH_CONFIG=auths(r="variable")) == "variable"
    assert user("a/x", DOCKER_AUTH_CONFIG=auths(r="variable")) == "docker-a"
    assert user("d", DOCKER_AUTH_CONFIG=auths(other="x")) == "docker"
    assert user("d", DOCKER_AUTH_CONFIG="  ") == "docker"
    assert user("a/x", REGISTRY_AUTH_FILE=str(run)) == "run"
    named = CredentialSource("r", docker_config=run, environ={**environ, "DOCKER_AUTH_CONFIG": auths(r="variable")})
    assert named.find().username == "run"


def test_a_variable_that_is_no_json_is_named_without_its_content() -> None:
    with pytest.raises(ConfigInvalid, match="DOCKER_AUTH_CONFIG: not JSON") as caught:
        CredentialSource("r", environ={"DOCKER_AUTH_CONFIG": "c2VjcmV0"}).find()
    assert "c2VjcmV0" not in str(caught.value)
    # The file is Docker's, so this program's own schema says nothing about it.
    assert "docker login" in caught.value.do and "schema" not in caught.value.do


def test_a_variable_that_is_no_text_is_an_error_of_the_configuration() -> None:
    with pytest.raises(ConfigInvalid, match="DOCKER_AUTH_CONFIG: not JSON"):
        CredentialSource("r", environ={"DOCKER_AUTH_CONFIG": os.fsdecode(b'{"auths": "\xff"}')}).find()


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("r.example", "r.example/"),
        ("r.example", "r.example/team/"),
        ("r.example:5000", "r.example:5000/"),
        ("docker.io", "index.docker.io/v1/"),
        ("docker.io", "docker.io/"),
        ("docker.io", "docker.io/team/"),
    ],
)
def test_a_key_that_ends_with_a_slash_is_the_same_key(host: str, key: str) -> None:
    """docker/cli reads what stands before the first slash; people paste addresses."""
    source = CredentialSource(host, environ={"DOCKER_AUTH_CONFIG": auths(**{key: "me"})})
    assert source.find(source.account("team/app")).username == "me"


def test_helpers_and_stores_with_paths(tmp_path: Path) -> None:
    program = tmp_path / "docker-credential-echo"
    program.write_text('#!/bin/sh\nread server\nprintf \'{"Username": "u", "Secret": "%s"}\' "$server"\n')
    program.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    path = tmp_path / "auth.json"

    def secret(repository: str, config: object) -> str:
        path.write_text(json.dumps(config))
        source = CredentialSource("r", docker_config=path, environ=environ)
        return source.find(source.account(repository)).password

    assert secret("a/b", {"credHelpers": {"r/a": "echo"}, "auths": {"r": entry("whole")}}) == "r/a"
    assert secret("b", {"credHelpers": {"r/a": "echo"}, "auths": {"r": entry("whole")}}) == "word"
    assert secret("a/b", {"credsStore": "echo", "auths": {"r/a": {}}}) == "r/a"
    assert secret("b", {"credsStore": "echo", "auths": {"r/a": {}}}) == "r"


def test_each_repository_is_asked_with_its_account(tmp_path: Path) -> None:
    with ExchangeServer(
        Expect("GET", "/v2/a/tags/list.*", Answer(401, {"WWW-Authenticate": "Basic"})),
        Expect("GET", "/v2/a/tags/list.*", OK, basic("one")),
        Expect("GET", "/v2/b/tags/list.*", OK, basic("two")),
        Expect("GET", "/v2/a/tags/list.*", OK, basic("one")),
    ) as server:
        path = written(tmp_path / "auth.json", {f"{server.address}/a": "one", server.address: "two"})
        registry = DistributionRegistry(server.address, docker_config=path, retries=ONCE)
        for repository in ("a", "b", "a"):
            assert list(registry.tags(repository)) == ["v1"]


def test_each_token_is_asked_for_with_its_account(tmp_path: Path) -> None:
    challenge = Answer(401, {"WWW-Authenticate": 'Bearer realm="http://{address}/token",service="r"'})
    with ExchangeServer(
        Expect("GET", "/v2/a/tags/list.*", challenge),
        Expect("GET", "/token.*repository%3Aa%3Apull", Answer(200, body={"token": "t-a"}), basic("one")),
        Expect("GET", "/v2/a/tags/list.*", OK, {"Authorization": "Bearer t-a"}),
        Expect("GET", "/token.*repository%3Ab%3Apull", Answer(200, body={"token": "t-b"}), basic("two")),
        Expect("GET", "/v2/b/tags/list.*", OK, {"Authorization": "Bearer t-b"}),
    ) as server:
        path = written(tmp_path / "auth.json", {f"{server.address}/a": "one", f"{server.address}/b": "two"})
        registry = DistributionRegistry(server.address, docker_config=path, retries=ONCE)
        assert [list(registry.tags(repository)) for repository in ("a", "b")] == [["v1"], ["v1"]]


def test_nothing_is_mounted_between_accounts(tmp_path: Path) -> None:
    with ExchangeServer(
        Expect("POST", f"/v2/a/y/blobs/uploads/.mount={DIGEST}&from=a/x", Answer(201)),
    ) as server:
        path = written(tmp_path / "auth.json", {f"{server.address}/a": "one", server.address: "two"})
        registry = DistributionRegistry(server.address, docker_config=path, retries=ONCE)
        assert registry.mount_blob("a/y", DIGEST, source="b") is False
        assert registry.mount_blob("a/y", DIGEST, source="a/x") is True


@pytest.mark.peer("skopeo")
def test_skopeo_reads_the_same_file_alike(tmp_path: Path, peer: Callable[[str], str]) -> None:
    challenge = Answer(401, {"WWW-Authenticate": "Basic"})
    asked = [
        Expect("GET", "/v2/", challenge),
        Expect("GET", "/v2/team/app/tags/list.*", OK, basic("team")),
    ]
    with ExchangeServer(*asked) as server:
        entries = {f"{server.address}/team": "team", server.address: "whole", f"{server.address}/team/other": "no"}
        path = written(tmp_path / "auth.json", entries)
        subprocess.run(
            [peer("skopeo"), "list-tags", "--tls-verify=false", f"docker://{server.address}/team/app"],
            check=True,
            capture_output=True,
            env={**os.environ, "REGISTRY_AUTH_FILE": str(path)},
        )
    source = CredentialSource(server.address, docker_config=path)
    assert source.find(source.account("team/app")).username == "team"
