"""The files for Docker Compose, as Compose itself reads them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.deployments.objects import ROOT
from tests.needs import needed_module

COMPOSE = ROOT / "deploy" / "compose"
IMAGE = "registry.example.com/platform/registry-pipelines@sha256:" + "1" * 64
OURS = {"tables", "code", "webserver", "daemon", "worker", "keys", "registries"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of deploy, in which an operator has not begun."""
    shutil.copytree(ROOT / "deploy" / "compose", tmp_path / "compose", ignore=shutil.ignore_patterns(".env"))
    shutil.copytree(ROOT / "deploy" / "dagster", tmp_path / "dagster")
    (tmp_path / "demo").mkdir()
    shutil.copy(ROOT / "deploy" / "demo" / "registry-pipelines.yaml", tmp_path / "demo")
    return tmp_path / "compose"


def read(program: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [program, "--profile", "embedded", "--profile", "by-hand", "config", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.peer("docker-compose")
def test_embedded_registries_are_served_where_there_are_any(peer: Callable[[str], str], folder: Path) -> None:
    """From any folder, with the configuration's as the operator writes it."""
    program, mine = peer("docker-compose"), folder.parent / "mine"

    def services(where: str) -> list[str]:
        (folder / ".env").unlink(missing_ok=True)
        subprocess.run(["compose/make-env", IMAGE, where], cwd=folder.parent, check=True, capture_output=True)
        done = subprocess.run([program, "config", "--format", "json"], cwd=folder, capture_output=True, text=True)
        told = json.loads(done.stdout)["services"]
        assert told["worker"]["volumes"][0]["source"] == str(folder.parent / where)
        return list(told)

    assert "registries" in services("demo")
    mine.mkdir()
    nothing = subprocess.run([folder / "make-env", IMAGE, mine], capture_output=True, text=True)
    assert nothing.returncode and "mine has no registry-pipelines.yaml" in nothing.stderr
    (odd := folder.parent / "a $c").mkdir()
    (odd / "registry-pipelines.yaml").write_text("registries: {}\n")
    other = subprocess.run([folder / "make-env", IMAGE, odd], capture_output=True, text=True)
    assert other.returncode and "would read another name" in other.stderr
    (mine / "registry-pipelines.yaml").write_text("registries: {far: {kind: distribution, host: registry.example}}\n")
    assert "registries" not in services("mine")


@pytest.mark.peer("docker-compose")
def test_compose_takes_it_and_nothing_may_do_more_than_it_must(peer: Callable[[str], str], folder: Path) -> None:
    program = peer("docker-compose")
    refused = read(program, folder)
    assert refused.returncode and "run ./make-env" in refused.stderr
    subprocess.run([folder / "make-env", IMAGE], check=True, capture_output=True)
    assert (folder / ".env").stat().st_mode & 0o777 == 0o600
    again = subprocess.run([folder / "make-env", IMAGE], capture_output=True, text=True)
    assert again.returncode and "its passwords are in the database's volume" in again.stderr
    done = read(program, folder, "--format", "json")
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    services = told["services"]
    assert set(services) == {*OURS, "postgres", "redis"}
    for name, service in services.items():
        assert "no-new-privileges:true" in service["security_opt"], name
        assert "privileged" not in service and "pid" not in service and "network_mode" not in service
        if name not in OURS:
            continue
        assert service["image"] == IMAGE and service["user"] == "65532:65532"
        assert service["read_only"] and service["cap_drop"] == ["ALL"] and "cap_add" not in service
        for mount in service["volumes"]:
            assert mount["type"] == "volume" or mount["read_only"], (name, mount)
        if "DAGSTER_HOME" in service["environment"]:
            assert service["environment"]["REGISTRY_PIPELINES_STATE"] == "/state"
    # As root the entry point of Redis's image wants /data for its own user, and without capabilities ends at that.
    redis = services["redis"]
    assert redis["user"] == "65532:65532" and redis["cap_drop"] == ["ALL"] and "cap_add" not in redis
    assert redis["tmpfs"] == ["/data:uid=65532,gid=65532,mode=0700"]
    # The role that everything uses is not the server's own.
    assert services["postgres"]["environment"]["POSTGRES_USER"] != "registry_pipelines"
    own = services["postgres"]["environment"]["POSTGRES_PASSWORD"]
    assert not [name for name in OURS if own in json.dumps(services[name])]
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert [(port["host_ip"], port["target"]) for port in published] == [("127.0.0.1", 3000)]
    # Keys are written by who makes them, and read by all others.
    mounts = [(name, mount) for name, each in services.items() for mount in each.get("volumes", ())]
    writers = [name for name, each in mounts if each.get("source") == "keys" and not each.get("read_only")]
    assert writers == ["keys"]
    assert {name for name, each in mounts if each.get("source") == "keys"} == {"keys", "code", "worker"}
    logs = {name: each.get("read_only", False) for name, each in mounts if each.get("source") == "registries"}
    assert logs == {"registries": False, "code": True, "worker": True}
    # Its password is in no command line.
    assert "requirepass" in str(redis["command"]) and redis["environment"]["REDISCLI_AUTH"] not in str(redis["command"])
    # The database, the queue and the daemon reach nothing outside; the code server asks registries for sensors.
    assert told["networks"]["inside"]["internal"]
    assert {name for name, each in services.items() if "outside" not in each["networks"]} == {
        *("postgres", "redis", "tables", "daemon", "keys"),
    }
    assert services["worker"]["deploy"]["replicas"] == 3


@pytest.mark.peer("docker-compose")
def test_behind_the_proxy_no_worker_reaches_a_webserver(peer: Callable[[str], str], folder: Path) -> None:
    """It believes each name that is sent to it."""
    shutil.copytree(ROOT / "deploy" / "access", folder.parent / "access")
    subprocess.run([folder / "make-env", IMAGE], check=True, capture_output=True)
    files = [word for name in ("compose", "access") for word in ("-f", f"{name}/compose.yaml")]
    done = subprocess.run(
        [peer("docker-compose"), *files, "--profile", "oidc", "config", "--format", "json"],
        cwd=folder.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    networks = {name: set(each["networks"]) for name, each in json.loads(done.stdout)["services"].items()}
    for name in ("webserver", "webserver-readers"):
        assert [each for each in networks if each != name and networks[each] & networks[name]] == [
            *("code", "postgres", "proxy", "redis"),
            *({"webserver", "webserver-readers"} - {name}),
        ]
    assert {name for name, each in networks.items() if "login" in each} == {"oauth2-proxy", "proxy"}
    assert networks["oauth2-proxy"] == {"login"}


def test_the_role_that_all_use_owns_its_two_databases_and_nothing_else(
    postgres_programs: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the database's image runs the file, once, with psql and the environment of the container."""
    psycopg = needed_module("psycopg", "postgres")
    monkeypatch.setenv("DATABASE_PASSWORD", "it's")
    psql = [postgres_programs / "psql", "-v", "ON_ERROR_STOP=1", "-d", postgres_url, "-f", COMPOSE / "databases.sql"]
    done = subprocess.run(psql, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with psycopg.connect(postgres_url, autocommit=True) as server:
        try:
            for name in ("dagster", "registry_pipelines"):
                with psycopg.connect(postgres_url, user="registry_pipelines", password="it's", dbname=name) as own:
                    own.execute("CREATE TABLE it (number INT)")
            rights = "rolsuper, rolcreatedb, rolcreaterole, rolreplication"
            found = server.execute(f"SELECT {rights} FROM pg_roles WHERE rolname = 'registry_pipelines'")
            assert found.fetchall() == [(False, False, False, False)]
        finally:
            server.execute("DROP DATABASE dagster")
            server.execute("DROP DATABASE registry_pipelines")
            server.execute("DROP ROLE registry_pipelines")
