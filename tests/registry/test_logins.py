"""Log-ins that are kept in Docker's and the container tools' files, or in their helpers."""

from __future__ import annotations

import base64
import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import ConfigInvalid, InputError, LocalError
from registry_pipelines.registry.client.auth_files import DOCKER_HUB_KEY, keys_of
from registry_pipelines.registry.client.credentials import Credentials, CredentialSource
from registry_pipelines.registry.client.logins import forget_login, login_file, others_with_login, store_login

HOST = "registry.example.com:5000"

HELPER = """#!/bin/sh
none() { echo "credentials not found in native keychain"; exit 1; }
case "$1" in
  store) cat > "$KEPT" ;;
  get) cat > /dev/null; test -s "$KEPT" || none; cat "$KEPT" ;;
  erase) cat > /dev/null; test -s "$KEPT" || none; : > "$KEPT" ;;
esac
"""


def found(file: Path, host: str = HOST, environ: dict[str, str] | None = None) -> Credentials:
    return CredentialSource(host, docker_config=file, environ=environ or {}).find()


def write(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content))


def read(file: Path) -> Any:
    return json.loads(file.read_text())


@pytest.fixture
def helper(tmp_path: Path) -> dict[str, str]:
    """A credential helper `safe` that keeps one log-in, and the environment it is found in."""
    program = tmp_path / "bin" / "docker-credential-safe"
    program.parent.mkdir()
    program.write_text(HELPER)
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:/usr/bin:/bin", "KEPT": str(tmp_path / "kept")}


def test_a_login_is_kept_for_its_owner_alone_and_found_again(tmp_path: Path) -> None:
    file = tmp_path / "new" / "config.json"
    store_login(file, HOST, "me", "pass:wörd")
    assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(file.parent.stat().st_mode)) == (0o600, 0o700)
    assert found(file) == Credentials("me", "pass:wörd")
    file.chmod(0o644)
    store_login(file, HOST, "me", "second")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and found(file).password == "second"
    assert forget_login(file, HOST).changed and found(file).anonymous
    assert not forget_login(file, HOST).changed and not forget_login(tmp_path / "none", HOST).changed


names = st.text(st.characters(codec="utf-8"), max_size=8)
values = st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | names, lambda one: st.lists(one, max_size=3))


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    settings_=st.dictionaries(names.filter(lambda name: name not in ("auths", "credHelpers", "credsStore")), values),
    entries=st.dictionaries(names.filter(lambda name: name not in keys_of(HOST)), values, max_size=4),
    password=st.text(st.characters(codec="utf-8", min_codepoint=32), min_size=1, max_size=20),
    link=st.booleans(),
)
def test_everything_else_in_the_file_stays(
    tmp_path: Path, settings_: dict[str, Any], entries: dict[str, Any], password: str, link: bool
) -> None:
    file, target = tmp_path / "config.json", tmp_path / "elsewhere.json"
    for each in (file, target):
        each.unlink(missing_ok=True)
    if link:
        file.symlink_to(target)
    before = {**settings_, "auths": entries}
    write(file, before)
    store_login(file, HOST, "me", password)
    own = {"auth": base64.b64encode(f"me:{password}".encode()).decode()}
    assert read(file) == {**before, "auths": {**entries, HOST: own}} and file.is_symlink() == link
    forget_login(file, HOST)
    assert read(file) == before and not list(tmp_path.glob(".*"))


def test_other_ways_to_write_the_same_registry_make_place(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    old = {"auth": base64.b64encode(b"old:old").decode(), "identitytoken": "old"}
    write(file, {"auths": {f"https://{HOST}/v1/": old, HOST: old, f"{HOST}/team": old}})
    store_login(file, HOST, "me", "new")
    assert list(read(file)["auths"]) == [f"{HOST}/team", HOST] and found(file) == Credentials("me", "new")
    write(file, {"auths": {"docker.io": old}})
    store_login(file, "docker.io", "me", "new")
    assert list(read(file)["auths"]) == [DOCKER_HUB_KEY] and found(file, "docker.io").password == "new"


@pytest.mark.parametrize("named", [{"credsStore": "safe"}, {"credHelpers": {HOST: "safe"}}])
def test_a_helper_keeps_the_secret_where_the_file_names_one(
    tmp_path: Path, helper: dict[str, str], named: dict[str, Any]
) -> None:
    file = tmp_path / "config.json"
    write(file, {**named, "auths": {HOST: {"auth": base64.b64encode(b"old:old").decode()}}})
    kept = store_login(file, HOST, "me", "secret", environ=helper)
    assert kept.helper == "safe" and read(file) == {**named, "auths": {HOST: {}}}
    assert json.loads(Path(helper["KEPT"]).read_text()) == {"ServerURL": HOST, "Username": "me", "Secret": "secret"}
    assert found(file, environ=helper) == Credentials("me", "secret")
    assert forget_login(file, HOST, environ=helper).changed
    assert forget_login(file, HOST, environ=helper).helper and found(file, environ=helper).anonymous
    assert read(file) == {**named, "auths": {}}


def test_a_helper_that_refuses_leaves_the_file_as_it_was(tmp_path: Path, helper: dict[str, str]) -> None:
    file = tmp_path / "config.json"
    write(file, {"credHelpers": {HOST: "safe"}})
    before = file.read_bytes()
    with pytest.raises(LocalError, match="failed with status") as caught:
        store_login(file, HOST, "me", "secret", environ={**helper, "KEPT": str(tmp_path / "no" / "folder")})
    assert file.read_bytes() == before and "secret" not in str(caught.value.diagnostics())


@pytest.mark.parametrize("content", ["{", "[]", '{"auths": [1]}', '{"auths": "x"}'])
def test_a_file_that_is_none_is_told_and_left(tmp_path: Path, content: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(content)
    with pytest.raises(ConfigInvalid):
        store_login(file, HOST, "me", "secret")
    assert file.read_text() == content


@pytest.mark.parametrize(("name", "password"), [("a:b", "x"), ("", "x"), ("a\n", "x"), ("a", "x\ny")])
def test_what_a_header_cannot_say_is_refused(tmp_path: Path, name: str, password: str) -> None:
    with pytest.raises(InputError):
        store_login(tmp_path / "config.json", HOST, name, password)
    assert not (tmp_path / "config.json").exists()


def test_logins_at_once_do_not_lose_each_other(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    hosts = [f"registry{number}.example.com" for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda host: store_login(file, host, "me", host), hosts))
    assert {host: found(file, host).password for host in hosts} == {host: host for host in hosts}


def test_the_file_that_is_written_is_one_that_is_read(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    assert login_file(home) == tmp_path / ".docker" / "config.json"
    assert login_file({**home, "DOCKER_CONFIG": "/d"}) == Path("/d/config.json")
    assert login_file({**home, "DOCKER_CONFIG": "/d", "REGISTRY_AUTH_FILE": "/a.json"}) == Path("/a.json")
    with pytest.raises(InputError, match="no home folder"):
        login_file({})
    store_login(login_file(home), HOST, "me", "secret")
    assert CredentialSource(HOST, environ=home).find() == Credentials("me", "secret")


def test_other_places_with_a_login_are_named(tmp_path: Path) -> None:
    own = tmp_path / ".config" / "containers" / "auth.json"
    own.parent.mkdir(parents=True)
    entry = {"auth": base64.b64encode(b"a:b").decode()}
    write(own, {"auths": {HOST: entry, f"{HOST}/team": entry, f"https://{HOST}/v1/": entry}})
    environ = {"HOME": str(tmp_path), "DOCKER_AUTH_CONFIG": json.dumps({"auths": {HOST: entry}})}
    told = others_with_login(HOST, login_file(environ), environ)
    assert [text.split()[0] for text in told] == ["DOCKER_AUTH_CONFIG", str(own), str(own)]
    assert "log-ins of their own for team below it" in told[-1]
