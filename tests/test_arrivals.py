"""Descriptors that are waited for."""

from __future__ import annotations

import fcntl
import os
import resource

from registry_pipelines.arrivals import is_ready
from registry_pipelines.oci.files import raise_file_limit


def test_a_descriptor_above_a_thousand_is_waited_for() -> None:
    """As an agent has with five images: `select` refuses it."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    raise_file_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    read, write = os.pipe()
    high = fcntl.fcntl(read, fcntl.F_DUPFD_CLOEXEC, 1500)
    try:
        assert high >= 1500 and not is_ready(high)
        os.write(write, b".")
        assert is_ready(high, 30)
    finally:
        for each in (read, write, high):
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
