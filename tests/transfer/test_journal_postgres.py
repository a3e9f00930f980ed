"""The journal on Postgres, for workers on many machines. Runs where a Postgres server and psycopg are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, ManifestBytes
from registry_pipelines.registry.interface import UploadSession
from registry_pipelines.transfer.copy import copy_closure
from registry_pipelines.transfer.journal import Journal
from registry_pipelines.transfer.verify import compare

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted, Graphs

pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
LAYER = Descriptor(media_type="application/octet-stream", digest=Digest.of(b"layer"), size=5)


def find_programs() -> Path:
    """The folder with initdb and pg_ctl; Debian keeps them off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    here = shutil.which("initdb")
    if not found and not here:
        pytest.skip("no Postgres server is installed")
    return found[-1].parent if found else Path(here or "").parent


@pytest.fixture
def url() -> Iterator[str]:
    """A fresh cluster, reached by a socket in its own folder; Postgres refuses to run as root."""
    programs = find_programs()
    folder = tempfile.mkdtemp(prefix="pg-", dir="/tmp")
    user: dict[str, object] = {}
    if os.getuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
        user = {"user": "postgres", "group": "postgres"}
    data = f"{folder}/data"

    def run(*command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, **user)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stderr

    run(str(programs / "initdb"), "-D", data, "-A", "trust", "-U", "rp", "--no-sync")
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
    run(str(programs / "pg_ctl"), "-D", data, "-w", "-l", f"{folder}/log", "-o", options, "start")
    yield f"postgresql+psycopg://rp@/postgres?host={folder}"
    run(str(programs / "pg_ctl"), "-D", data, "-w", "-m", "immediate", "stop")
    shutil.rmtree(folder)


def test_journal_keeps_uploads_manifests_and_holdings(
    url: str, source: Counted, target: Counted, graphs: Graphs, tmp_path: Path
) -> None:
    place = target.place("app")
    first, second = Journal(url), Journal(url)
    first.record(place, LAYER, UploadSession("app", "http://x/upload", 4096))
    assert second.resume(place, LAYER) is None
    first.close()
    session = second.resume(place, LAYER)
    assert session is not None
    assert session.offset == 4096
    good = ManifestBytes(b"{}", "application/json", Digest.of(b"{}"))
    second.keep_manifest(good)
    second.keep_manifest(good)
    assert second.manifest(good.digest) == good
    second.hold(place, [LAYER.digest])
    assert second.holders(target.address, [LAYER.digest]) == {LAYER.digest: "app"}
    second.close()
    graphs.image(source.place("app"), graphs.noise(20_000_000), tag="v1")
    copy_closure(source.place("app"), "v1", [place], state=tmp_path, journal_url=url)
    assert compare(source.place("app"), place, "v1", content=True) == []
