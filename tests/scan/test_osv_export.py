"""The double of OSV's export is a source of advisories as it lies there, and answers as the bucket does."""

from __future__ import annotations

import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import pytest

from registry_pipelines.scan.advisories import AdvisoryStore
from tests.doubles.osv_export import OsvExport, small_set, write


def test_its_zips_are_a_source_of_advisories_of_today(tmp_path: Path) -> None:
    store = AdvisoryStore.load(write(tmp_path / "osv", small_set()), tmp_path / "state")
    assert store.problems == [] and store.covers("Debian:13") and store.covers("PyPI")
    store.require_younger(1, datetime.now(UTC))
    assert [record.id for record in store.about("PyPI", "numpyy")] == ["MAL-2025-1001"]
    assert [record.id for record in store.about("Debian:12", "openssl")] == ["DEBIAN-CVE-2021-23840"]
    assert len(store.about("PyPI", "pandas")) == 2
    store.close()


def test_it_answers_as_the_bucket_does() -> None:
    with OsvExport(small_set()) as export:
        assert export.content("ecosystems.txt") == b"Debian\nPyPI\n"
        lines = (export.content("PyPI/modified_id.csv") or b"").decode().splitlines()
        assert len(lines) == 8 and all(line.partition(",")[2] in export.records for line in lines)
        with urllib.request.urlopen(f"{export.url}/PyPI/all.zip") as answer:
            whole, tag = answer.read(), answer.headers["ETag"]
        ranged = urllib.request.Request(f"{export.url}/PyPI/all.zip", headers={"Range": "bytes=10-", "If-Match": tag})
        with urllib.request.urlopen(ranged) as answer:
            assert (answer.status, answer.read()) == (206, whole[10:])
        with pytest.raises(urllib.error.HTTPError, match="412"):
            urllib.request.urlopen(urllib.request.Request(f"{export.url}/PyPI/all.zip", headers={"If-Match": '"old"'}))
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{export.url}/npm/all.zip")
