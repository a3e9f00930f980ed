"""Every version that the shipped PyPA set lists, judged: the counts are those that others found in it."""

from __future__ import annotations

import tarfile
from collections import Counter

import msgspec
import pytest

from registry_pipelines.chain.advisories import bundled_advisories
from registry_pipelines.scan.judging import judge
from registry_pipelines.scan.osv import read_record
from registry_pipelines.scan.versions import parse_version

pytestmark = pytest.mark.long


def test_listed_or_in_a_range_never_one_instead_of_the_other() -> None:
    counts: Counter[str] = Counter()
    with tarfile.open(bundled_advisories()) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.name.endswith(".yaml") else None
            if file is None:
                continue
            record = read_record(file.read(), form="yaml")
            counts["records"] += 1
            counts["withdrawn"] += bool(record.withdrawn)
            counts["rated"] += bool(record.severity)
            for entry in record.affected or ():
                alone = msgspec.structs.replace(entry, versions=[])
                ranged = any(each.type != "GIT" for each in entry.ranges or ())
                for version in entry.versions or ():
                    parsed = parse_version("PyPI", version)
                    counts["missed"] += not judge([entry], "PyPI", version).affected
                    counts["legacy"] += parsed is None
                    counts["not canonical"] += parsed is not None and str(parsed) != version
                    if parsed is not None and ranged:
                        counts["listed outside of ranges"] += not judge([alone], "PyPI", version).affected
    assert counts == {
        "records": 2661,
        "withdrawn": 10,
        "rated": 202,
        "missed": 0,
        "legacy": 108,
        "not canonical": 896,
        "listed outside of ranges": 9,
    }
