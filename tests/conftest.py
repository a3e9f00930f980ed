"""Fixtures that every room shares."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import installed as installation
from tests.doubles.postgres import ESCAPED, PASSWORD, PostgresServer, find_programs
from tests.needs import missing, needed_module
from tests.patience import patient

pytest_plugins = ["tests.slowest_files"]
# The contract suite is no test file by name; its assertions shall explain themselves all the same.
pytest.register_assert_rewrite("tests.registry.contract")
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")
PEERS = Path(__file__).parent.parent / ".peers" / "bin"


def pytest_configure() -> None:
    """A script's `&` hands on an ignored SIGINT, and whatever is started from here would ignore it too."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """With one for each processor a third of their time goes by in waiting, for servers and for what is killed."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Every test's own limit, else the one of the settings, is one of an idle machine."""
    usual = float(config.getini("timeout"))
    for item in items:
        own = item.get_closest_marker("timeout")
        item.add_marker(pytest.mark.timeout(patient(own.args[0] if own else usual)), append=False)


def find_peer(program: str) -> str | None:
    """An independent program: what `.ci/install-peers` unpacked, else what the system has."""
    unpacked = PEERS / program
    if unpacked.exists():
        return str(unpacked)
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@pytest.fixture(scope="session")
def peer() -> Callable[[str], str]:
    """The path of an independent program. Missing: skipped with the reason, in CI a failure."""

    def find(program: str) -> str:
        return find_peer(program) or missing(f"{program} is not installed (.ci/install-peers installs it on Debian)")

    return find


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's own settings (Docker credentials, cosign, notation, DAGSTER_HOME)."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    for name in ("DOCKER_CONFIG", "DAGSTER_HOME", "XDG_CONFIG_HOME", "REGISTRY_AUTH_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program `registry-pipelines` of an environment that has the wheel, and knows nothing of this checkout. It is
    made once for all processes of a test run."""
    needed_module("dagster", "dagster")
    base = tmp_path_factory.getbasetemp()
    return installation.installed_once(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)


@pytest.fixture(scope="session")
def postgres_programs() -> Path:
    """The folder of a Postgres server's programs; skipped where there is none."""
    programs = find_programs()
    if programs is None:
        missing("no Postgres server is installed (.ci/install-peers installs it on Debian)")
    return programs


@pytest.fixture(scope="session")
def _postgres(postgres_programs: Path) -> Iterator[str]:
    with PostgresServer(postgres_programs) as server:
        yield server.folder


@pytest.fixture
def postgres_url(_postgres: str) -> str:
    """An empty database of its own. Without a Postgres server or psycopg: skipped, in CI a failure."""
    psycopg = needed_module("psycopg", "postgres")
    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(host=_postgres, user="rp", password=PASSWORD, dbname="postgres", autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
    return f"postgresql://rp:{ESCAPED}@/{name}?host={_postgres}"


@pytest.fixture(autouse=True)
def _shared_states_are_left() -> Iterator[None]:
    """Each has connections, and a test's database is not the next one's."""
    yield
    for module, leave in (("registry_pipelines.shared.state", "close_all"), ("tests.doubles.workers", "all_leave")):
        if module in sys.modules:
            getattr(sys.modules[module], leave)()
    if "registry_pipelines.registry.client.locks" in sys.modules:
        sys.modules["registry_pipelines.registry.client.locks"].share_locks(None)
