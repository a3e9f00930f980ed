"""Advisories on the command line: what a scan says of them first, and where they come from."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from registry_pipelines.cli import main
from registry_pipelines.scan.feed import BUFFER_BYTES
from tests.answers import answered
from tests.chain.fleet import Fleet, start, write_advisory
from tests.cli.on_fleet import answer, run
from tests.cli.test_bad_input import PROGRAM
from tests.doubles.osv_export import OsvExport, malicious, small_set
from tests.patience import patient
from tests.scan.images import push_image

IMAGE = {
    "etc/os-release": b'ID=debian\nVERSION_ID="13"\n',
    "var/lib/dpkg/status": b"Package: openssl\nStatus: install ok installed\nVersion: 3.5.1-1\nArchitecture: amd64\n"
    b"Maintainer: Debian OpenSSL Team <pkg-openssl-devel@alioth-lists.debian.net>\n\n",
    "opt/venv/site-packages/numpyy-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: numpyy\nVersion: 1.0\n\n",
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield start(tmp_path_factory.mktemp("fleet"), stack)


def test_old_or_missing_advisories_are_the_first_lines_of_a_scan(fleet: Fleet) -> None:
    write_advisory(fleet.folder / "advisories", modified=datetime(2026, 1, 2, tzinfo=UTC))
    place = fleet.chain.place("app")
    push_image(place, [IMAGE], tag="v9.0.0")
    for target, named in (("app:v9.0.0", ()), (f"{place}:v9.0.0", ("--advisories", str(fleet.folder / "advisories")))):
        old, lacking, *_ = run(fleet, "scan", target, *named, code=3).stdout.splitlines()
        assert old.startswith("The advisories are old: the newest is of 2026-01-02, ")
        assert lacking.startswith("No advisories are there for Debian:13 (1 package): nothing is known about them.")
        assert old.endswith("then scan again") and lacking.endswith("then scan again")
        found = answer(fleet, "scan", target, *named, code=3)
        assert found[1]["alerts"] == [old, lacking]


@pytest.fixture(scope="module")
def export() -> Iterator[OsvExport]:
    with OsvExport(small_set()) as export:
        yield export


@pytest.fixture(scope="module")
def fed(tmp_path_factory: pytest.TempPathFactory, export: OsvExport) -> Iterator[Fleet]:
    """A fleet whose advisories come from the export."""
    with ExitStack() as stack:
        fleet = start(tmp_path_factory.mktemp("fed"), stack)
        fleet.reload(("{source: advisories}", f"{{feed: '{export.url}'}}"))
        yield fleet


def alone(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str | Path, code: int = 0) -> Any:
    """Without a configuration, with a state folder of its own."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    found = CliRunner().invoke(main, [*map(str, arguments), "--json"])
    assert found.exit_code == code, found.output
    return answered(found.stdout)


def test_from_the_first_scan_to_an_air_gap(
    fed: Fleet, export: OsvExport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_image(fed.chain.place("app"), [IMAGE], tag="v1.0.0")
    snapshot, lacking, *_ = run(fed, "scan", "app:v1.0.0", code=3).stdout.splitlines()
    assert snapshot.startswith("The advisories are the snapshot that comes with the package, for the demonstration: ")
    assert "Debian:13 (1 package)" in lacking and "`registry-pipelines advisories update`" in lacking
    assert answer(fed, "advisories", "status", code=3)["facts"]["kind"] == "snapshot"
    closed = fed.path.with_name("closed.yaml")
    closed.write_text(fed.path.read_text().replace(f"'{export.url}'", "null"))
    said = CliRunner().invoke(main, ["advisories", "status", "--config", str(closed)]).stdout
    assert "advisories import FILE" in said.splitlines()[0]

    done = answer(fed, "advisories", "update")
    assert [(row["ecosystem"], row["fetched"]) for row in done["rows"]] == [("Debian", "all.zip"), ("PyPI", "all.zip")]
    assert done["notes"] == [] and done["bytes_moved"] == export.sent_bytes
    standing = answer(fed, "advisories", "status")
    assert (standing["digest"], standing["facts"]["age_days"], standing["alerts"]) == (done["digest"], 0, [])
    scanned = answer(fed, "scan", "app:v1.0.0", code=3)[1]
    assert scanned["alerts"] == [] and scanned["facts"]["findings_malicious"] == 1
    assert scanned["facts"]["advisories_digest"] == done["digest"]
    text = run(fed, "scan", "app:v1.0.0", code=3).stdout
    assert "MALICIOUS" in text and "write an exception for MAL-2025-1001" in text
    assert "unchanged" in run(fed, "advisories", "update").stdout

    written = answer(fed, "advisories", "export", str(tmp_path / "set.tar"))
    wrong = alone(tmp_path, monkeypatch, "advisories", "import", "set.tar", "--digest", "0" * 64, code=6)
    assert wrong["error"]["error"] == "DigestMismatch"
    there = alone(tmp_path, monkeypatch, "advisories", "import", "set.tar", "--digest", written["digest"])
    assert there["digest"] == done["digest"]
    assert alone(tmp_path, monkeypatch, "advisories", "status")["rows"][0]["records"] == 5
    reference = f"{fed.chain.place('app')}:v1.0.0"
    assert alone(tmp_path, monkeypatch, "scan", reference, code=3)[1]["rows"][0]["severity"] == "MALICIOUS"


def test_what_was_fetched_by_hand_is_taken(export: OsvExport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "PyPI-all.zip").write_bytes(export.content("PyPI/all.zip") or b"")
    done = alone(tmp_path, monkeypatch, "advisories", "import", "PyPI=PyPI-all.zip")
    assert [(row["ecosystem"], row["malicious"]) for row in done["rows"]] == [("PyPI", 2)]
    wrong = alone(tmp_path, monkeypatch, "advisories", "import", "PyPI-all.zip", code=8)
    assert "advisories import PyPI=all.zip" in wrong["error"]["do"]
    both = alone(tmp_path, monkeypatch, "advisories", "import", "PyPI-all.zip", "PyPI-all.zip", code=8)
    assert both["error"]["what"].startswith("either one exported set")


def test_a_set_of_the_future_is_said_to_be_one(fleet: Fleet, tmp_path: Path) -> None:
    ahead = datetime.now(UTC) + timedelta(days=400)
    write_advisory(tmp_path / "ahead", modified=ahead)
    path = fleet.path.with_name("ahead.yaml")
    path.write_text(fleet.path.read_text().replace("{source: advisories}", f"{{source: '{tmp_path / 'ahead'}'}}"))
    found = CliRunner().invoke(main, ["advisories", "status", "--config", str(path), "--json"])
    told = answered(found.stdout)
    assert found.exit_code == 3 and told["action"].endswith(", in the future") and told["facts"]["age_days"] < -398
    assert f"{ahead:%Y-%m-%d}, which is in the future" in told["alerts"][0]


@pytest.mark.parametrize(
    ("advisories", "said"),
    [
        ("{source: advisories}", "names advisories of your own"),
        ("{feed: null}", "`advisories.feed` is null"),
    ],
)
def test_where_nothing_can_be_fetched_it_is_said(fleet: Fleet, advisories: str, said: str) -> None:
    path = fleet.path.with_name("other.yaml")
    path.write_text(fleet.path.read_text().replace("{source: advisories}", advisories))
    found = CliRunner().invoke(main, ["advisories", "update", "--ecosystem", "PyPI", "--config", str(path)])
    assert found.exit_code == 8 and said in found.stderr and "Traceback" not in found.stderr


@pytest.mark.parametrize("feed", ["http://mirror.example/osv", "https://user:secret@mirror.example", "ftp://x", "osv"])
def test_a_feed_is_https_without_secrets(fleet: Fleet, feed: str) -> None:
    path = fleet.path.with_name("feed.yaml")
    path.write_text(fleet.path.read_text().replace("{source: advisories}", f"{{feed: '{feed}'}}"))
    found = CliRunner().invoke(main, ["config", "check", "--config", str(path)])
    assert found.exit_code == 8 and "is not the address of an export of advisories" in found.stderr


def test_a_killed_update_goes_on_where_it_was(fleet: Fleet, tmp_path: Path) -> None:
    many = [*small_set(), *(malicious(f"evil-{number}", f"2026-{number}") for number in range(1500))]
    with OsvExport(many) as export:
        path = tmp_path / "registry-pipelines.yaml"
        path.write_text(f"registries: {{}}\nadvisories: {{feed: '{export.url}', ecosystems: [PyPI]}}\n")
        command = [*PROGRAM, "advisories", "update", "--config", str(path)]
        export.held["PyPI/all.zip"] = 2 * BUFFER_BYTES
        part = tmp_path / ".registry-pipelines" / "advisories" / "partial" / "PyPI" / "PyPI.zip.part"
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            until = time.monotonic() + patient(30)
            while not (part.exists() and part.stat().st_size == 2 * BUFFER_BYTES) and time.monotonic() < until:
                time.sleep(0.01)
            process.kill()
        assert not (tmp_path / ".registry-pipelines" / "advisories" / "current").exists()
        done = CliRunner().invoke(main, ["advisories", "update", "--json", "--config", str(path)])
        assert done.exit_code == 0 and answered(done.stdout)["rows"][0]["records"] == 1508
        assert ("GET", "PyPI/all.zip", f"bytes={2 * BUFFER_BYTES}-", 206) in export.asked
