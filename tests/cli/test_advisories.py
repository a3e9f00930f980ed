"""Advisories on the command line: what a scan says of them first, and where they come from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import pytest
from click.testing import CliRunner, Result

from registry_pipelines.cli import main
from tests.chain.fleet import Fleet, start, write_advisory
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


def run(fleet: Fleet, *arguments: str, code: int = 0) -> Result:
    found = CliRunner().invoke(main, [*arguments, "--config", str(fleet.path)])
    assert found.exit_code == code, found.output
    return found


def answer(fleet: Fleet, *arguments: str, code: int = 0) -> Any:
    return json.loads(run(fleet, *arguments, "--json", code=code).stdout)


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
        assert (found[1] if isinstance(found, list) else found)["alerts"] == [old, lacking]
