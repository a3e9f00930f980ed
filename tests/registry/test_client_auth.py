"""Log-ins on the wire: challenges, tokens, basic, Docker's config.json and credential helpers."""

from __future__ import annotations

import base64
import json
import os
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import ConfigInvalid, InputError, RegistryError, ToolMissing, Unauthorized
from registry_pipelines.registry.client import DistributionRegistry, Retries
from registry_pipelines.registry.client.challenges import Challenge, read_challenges
from registry_pipelines.registry.client.credentials import Credentials, CredentialSource, ask_helper
from tests.doubles.exchanges import Answer, ExchangeServer, Expect

ONCE = Retries(attempts=1)
OK = Answer(200, {"Content-Type": "application/json"}, {"tags": ["v1"]})
BASIC = "Basic " + base64.b64encode(b"user:pass:word").decode()


def bearer(scope: str = "repository:a:pull") -> Answer:
    challenge = f'Bearer realm="http://{{address}}/token",service="the registry, main",scope="{scope}"'
    return Answer(401, {"WWW-Authenticate": challenge}, {"errors": [{"code": "UNAUTHORIZED", "message": "log in"}]})


def token(value: str, **more: object) -> Answer:
    return Answer(200, {"Content-Type": "application/json"}, {"token": value, **more})


def tags(registry: DistributionRegistry) -> list[str]:
    return list(registry.tags("a"))


# Challenges


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Basic realm="x"', [Challenge("basic", {"realm": "x"})]),
        ("Basic", [Challenge("basic")]),
        ("basic realm=simple", [Challenge("basic", {"realm": "simple"})]),
        ('Basic realm="a, b \\"c\\""', [Challenge("basic", {"realm": 'a, b "c"'})]),
        (
            'Bearer realm="https://auth/token",service="reg",scope="repository:a:pull,push repository:b:pull"',
            [
                Challenge(
                    "bearer",
                    {
                        "realm": "https://auth/token",
                        "service": "reg",
                        "scope": "repository:a:pull,push repository:b:pull",
                    },
                )
            ],
        ),
        (
            'Negotiate abc123==, Basic realm="x", Bearer Realm = "r" , error="insufficient_scope"',
            [
                Challenge("negotiate"),
                Challenge("basic", {"realm": "x"}),
                Challenge("bearer", {"realm": "r", "error": "insufficient_scope"}),
            ],
        ),
        ('Negotiate, Basic realm="x"', [Challenge("negotiate"), Challenge("basic", {"realm": "x"})]),
        (", ,", []),
    ],
)
def test_challenges(header: str, expected: list[Challenge]) -> None:
    assert read_challenges([header]) == expected


@given(st.lists(st.text(max_size=300), max_size=3))
@settings(max_examples=200, deadline=None)
def test_any_header_can_be_read(headers: list[str]) -> None:
    for challenge in read_challenges(headers):
        assert challenge.scheme == challenge.scheme.lower()


_NAMES = st.text(string.ascii_lowercase, min_size=1, max_size=8)
_VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)


@given(st.lists(st.tuples(_NAMES, st.dictionaries(_NAMES, _VALUES, min_size=1, max_size=4)), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_printed_challenges_are_read_again(written: list[tuple[str, dict[str, str]]]) -> None:
    def quoted(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    text = ", ".join(
        f"{scheme} " + ", ".join(f"{name}={quoted(value)}" for name, value in parameters.items())
        for scheme, parameters in written
    )
    assert read_challenges([text]) == [Challenge(scheme, parameters) for scheme, parameters in written]


# Tokens


def test_the_bearer_flow_with_credentials() -> None:
    with ExchangeServer(
        Expect("GET", "/v2/a/tags/list.*", bearer(), {"Authorization": None}),
        Expect(
            "GET",
            r"/token\?service=the\+registry%2C\+main&scope=repository%3Aa%3Apull",
            token("t1"),
            {"Authorization": BASIC},
        ),
        Expect("GET", "/v2/a/tags/list.*", OK, {"Authorization": "Bearer t1"}),
        Expect("GET", "/v2/a/tags/list.*", OK, {"Authorization": "Bearer t1"}),
    ) as server:
        registry = DistributionRegistry(server.address, username="user", password="pass:word")
        assert tags(registry) == ["v1"]
        assert tags(registry) == ["v1"]
    assert server.connections == 1, "connections are kept"


def test_an_anonymous_token() -> None:
    with ExchangeServer(
        Expect("GET", "/v2/a/tags/list.*", bearer()),
        Expect("GET", r"/token.*", Answer(body={"access_token": "t1"}), {"Authorization": None}),
        Expect("GET", "/v2/a/tags/list.*", OK, {"Authorization": "Bearer t1"}),
    ) as server:
        assert tags(DistributionRegistry(server.address)) == ["v1"]


def test_a_token_serves_its_scope_only() -> None:
    with ExchangeServer(
        Expect("GET", "/v2/a/tags/list.*", bearer()),
        Expect("GET", r"/token.*scope=repository%3Aa%3Apull", token("t1")),
        Expect("GET", "/v2/a/tags/list.*", OK, {"Authorization": "Bearer t1"}),
        Expect("GET", r"/token.*scope=repository%3Ab%3Apull", token("t2")),
        Expect("GET", "/v2/b/tags/list.*", OK, {"Authorization": "Bearer t2"}),
    ) as server:
        registry = DistributionRegistry(server.address)
        assert list(registry.tags("a")) == list(registry.tags("b")) == ["v1"]


def test_a_scope_the_registry_adds_is_asked_for_and_remembered() -> None:
    with ExchangeServer(
        Expect("GET", "/v2/a/tags/list.*", bearer("repository:other:pull")),
        Expect(
            "GET", r"/token.*scope=repository%3Aa%3Apull&scope=repository%3Aother%3Apull", token("t1", expires_in=1)
        ),
        Expect("GET", "/v2/a/tags/list.*", OK, {"Authorization": "Bearer t1"}),
    ) as server:
        assert tags(DistributionRegistry(server.address)) == ["v1"]


def test_a_refused_token_is_replaced_once() -> None:
    with (
        ExchangeServer(
            Expect("GET", "/v2/a/tags/list.*", bearer()),
            Expect("GET", r"/token.*", token("t1")),
            Expect("GET", "/v2/a/tags/list.*", bearer(), {"Authorization": "Bearer t1"}),
        ) as server,
        pytest.raises(Unauthorized, match=r"no credentials for it are known here.*log in"),
    ):
        tags(DistributionRegistry(server.address, retries=ONCE))


def test_wrong_credentials_at_the_token_service() -> None:
    refusal = Answer(401, body={"details": "incorrect username or password pass:word"})
    with (
        ExchangeServer(
            Expect("GET", "/v2/a/tags/list.*", bearer()),
            Expect("GET", r"/token.*", refusal),
        ) as server,
        pytest.raises(Unauthorized),
    ):
        tags(DistributionRegistry(server.address, username="user", password="wrong", retries=ONCE))


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, body=b"<html>"),
        Answer(200, body=b"[]"),
        Answer(200, body={"token": 5}),
        Answer(200, body={"token": ""}),
        Answer(200, body={"token": "a\r\nX: y"}),
        Answer(200, body={"token": "t", "expires_in": "soon"}),
        Answer(404),
    ],
)
def test_a_token_service_that_is_none(answer: Answer) -> None:
    with (
        ExchangeServer(Expect("GET", "/v2/a/tags/list.*", bearer()), Expect("GET", r"/token.*", answer)) as server,
        pytest.raises(RegistryError),
    ):
        tags(DistributionRegistry(server.address, retries=ONCE))


def test_an_identity_token_is_exchanged(tmp_path: Path) -> None:
    with ExchangeServer(
        Expect("GET", "/v2/a/tags/list.*", bearer()),
        Expect(
            "POST",
            "/token",
            token("t1"),
            {"Authorization": None, "Content-Type": "application/x-www-form-urlencoded"},
            b"service=the+registry%2C+main&scope=repository%3Aa%3Apull&grant_type=refresh_token"
            b"&client_id=registry-pipelines&refresh_token=refresh%2Fme",
        ),
        Expect("GET", "/v2/a/tags/list.*", OK, {"Authorization": "Bearer t1"}),
    ) as server:
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"auths": {server.address: {"identitytoken": "refresh/me"}}}))
        assert tags(DistributionRegistry(server.address, docker_config=config)) == ["v1"]


def test_credentials_are_not_sent_to_a_plain_token_service_elsewhere() -> None:
    challenge = Answer(401, {"WWW-Authenticate": 'Bearer realm="http://tokens.example/token"'})
    with (
        ExchangeServer(Expect("GET", "/v2/a/tags/list.*", challenge)) as server,
        pytest.raises(InputError, match="plain HTTP"),
    ):
        tags(DistributionRegistry(server.address, username="user", password="pass:word", retries=ONCE))


# Basic


def test_the_basic_flow() -> None:
    challenge = Answer(401, {"WWW-Authenticate": 'Basic realm="a, b"'})
    with ExchangeServer(
        Expect("GET", "/v2/a/tags/list.*", challenge, {"Authorization": None}),
        Expect("GET", "/v2/a/tags/list.*", OK, {"Authorization": BASIC}),
        Expect("GET", "/v2/a/tags/list.*", OK, {"Authorization": BASIC}),
    ) as server:
        registry = DistributionRegistry(server.address, username="user", password="pass:word")
        assert tags(registry) == tags(registry) == ["v1"]


def test_basic_without_credentials_says_what_to_do() -> None:
    challenge = Answer(401, {"WWW-Authenticate": "Basic"})
    with (
        ExchangeServer(Expect("GET", "/v2/a/tags/list.*", challenge)) as server,
        pytest.raises(Unauthorized, match="docker login"),
    ):
        tags(DistributionRegistry(server.address, retries=ONCE))


def test_wrong_basic_credentials() -> None:
    challenge = Answer(401, {"WWW-Authenticate": "Basic"})
    with (
        ExchangeServer(
            Expect("GET", "/v2/a/tags/list.*", challenge), Expect("GET", "/v2/a/tags/list.*", challenge)
        ) as server,
        pytest.raises(Unauthorized),
    ):
        tags(DistributionRegistry(server.address, username="u", password="wrong", retries=ONCE))


def test_renewed_credentials_are_found(tmp_path: Path) -> None:
    """A helper's token ages; a refused one makes us look again."""
    challenge = Answer(401, {"WWW-Authenticate": "Basic"})
    config = tmp_path / "config.json"

    def write(address: str, word: str) -> None:
        config.write_text(json.dumps({"auths": {address: {"username": "u", "password": word}}}))

    first, second = (f"Basic {base64.b64encode(f'u:{word}'.encode()).decode()}" for word in ("one", "two"))
    with ExchangeServer(
        Expect("GET", "/v2/a/tags/list.*", challenge),
        Expect("GET", "/v2/a/tags/list.*", OK, {"Authorization": first}),
        Expect("GET", "/v2/a/tags/list.*", challenge, {"Authorization": first}),
        Expect("GET", "/v2/a/tags/list.*", OK, {"Authorization": second}),
    ) as server:
        registry = DistributionRegistry(server.address, docker_config=config)
        write(server.address, "one")
        assert tags(registry) == ["v1"]
        write(server.address, "two")
        assert tags(registry) == ["v1"]


@pytest.mark.parametrize("header", ["Negotiate", 'Digest realm="x"', "Bearer", ""])
def test_an_unknown_log_in(header: str) -> None:
    answer = Answer(401, {"WWW-Authenticate": header} if header else {})
    with ExchangeServer(Expect("GET", "/v2/a/tags/list.*", answer)) as server, pytest.raises(Unauthorized):
        tags(DistributionRegistry(server.address, retries=ONCE))


# Docker's config.json


def find(config: object, host: str, folder: Path, **environ: str) -> Credentials:
    path = folder / "config.json"
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    return CredentialSource(host, docker_config=path, environ={**os.environ, **environ}).find()


AUTH = base64.b64encode(b"user:pass:word").decode()


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("reg.example", "reg.example"),
        ("reg.example", "https://reg.example"),
        ("reg.example", "https://reg.example/v1/"),
        ("reg.example:5000", "reg.example:5000"),
        ("docker.io", "https://index.docker.io/v1/"),
        ("docker.io", "docker.io"),
    ],
)
def test_a_host_is_found_however_it_is_written(tmp_path: Path, host: str, key: str) -> None:
    assert find({"auths": {key: {"auth": AUTH}}}, host, tmp_path) == Credentials("user", "pass:word")
    assert find({"auths": {key: {"auth": AUTH}}}, "other.example", tmp_path).anonymous


@pytest.mark.parametrize("config", ["", "{}", '{"auths": null}', '{"auths": {"r": null}}', '{"auths": {"r": {}}}'])
def test_nothing_is_anonymous(tmp_path: Path, config: str) -> None:
    assert find(config, "r", tmp_path).anonymous


@pytest.mark.parametrize(
    "config",
    ["[]", "{", '{"auths": {"r": {"auth": "c2VjcmV0*"}}}', '{"credHelpers": {"r": "../../bin/sh"}}', "[" * 99999],
)
def test_a_bad_config_is_named_without_its_content(tmp_path: Path, config: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        find(config, "r", tmp_path)
    assert "c2VjcmV0" not in str(caught.value)


def test_the_usual_places(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"r": {"auth": AUTH}}}))
    assert CredentialSource("r", environ={"DOCKER_CONFIG": str(tmp_path)}).find().username == "user"
    assert (
        CredentialSource("r", environ={"REGISTRY_AUTH_FILE": str(tmp_path / "config.json")}).find().username == "user"
    )
    assert CredentialSource("r", environ={"HOME": str(tmp_path / "nowhere")}).find().anonymous
    assert CredentialSource("r", username="a", password="b", environ={"DOCKER_CONFIG": str(tmp_path)}).find() == (
        Credentials("a", "b")
    )


def helper(folder: Path, name: str, script: str) -> dict[str, str]:
    path = folder / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def test_a_credential_helper_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = 'read host; echo "{\\"ServerURL\\": \\"$host\\", \\"Username\\": \\"$1-$host\\", \\"Secret\\": \\"s\\"}"'
    monkeypatch.setenv("PATH", helper(tmp_path, "test", script)["PATH"])
    assert find({"credHelpers": {"r": "test"}}, "r", tmp_path) == Credentials("get-r", "s")
    assert find({"credsStore": "test"}, "r", tmp_path) == Credentials("get-r", "s")
    store = {"credsStore": "test", "auths": {"https://r": {}}}
    assert find(store, "r", tmp_path) == Credentials("get-https://r", "s")
    hub = find({"credsStore": "test"}, "docker.io", tmp_path)
    assert hub.username == "get-https://index.docker.io/v1/"


def test_a_helpers_identity_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", helper(tmp_path, "test", """echo '{"Username": "<token>", "Secret": "s"}'""")["PATH"])
    assert find({"credHelpers": {"r": "test"}}, "r", tmp_path) == Credentials(identity_token="s")


def test_a_helper_that_knows_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "echo credentials not found in native keychain; exit 1"
    monkeypatch.setenv("PATH", helper(tmp_path, "test", script)["PATH"])
    assert find({"credsStore": "test"}, "r", tmp_path).anonymous


@pytest.mark.parametrize(
    "script", ["echo top-secret >&2; exit 3", "echo top-secret", "echo '[]'", "yes top-secret", "exec sleep 60"]
)
def test_a_helper_that_misbehaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr("registry_pipelines.registry.client.credentials.HELPER_TIMEOUT_S", 0.3)
    monkeypatch.setenv("PATH", helper(tmp_path, "test", script)["PATH"])
    with pytest.raises(Unauthorized) as caught:
        ask_helper("test", "r")
    assert "top-secret" not in str(caught.value)


def test_a_missing_helper(tmp_path: Path) -> None:
    with pytest.raises(ToolMissing, match="docker-credential-nowhere"):
        find({"credsStore": "nowhere"}, "r", tmp_path)
