"""Tar entries, against Python's own ``tarfile``."""

from __future__ import annotations

import tarfile

from hypothesis import example, given
from hypothesis import strategies as st

from registry_pipelines.build.entries import FIXED_TIME, header_bytes

names = st.one_of(
    st.text(max_size=120),
    st.text("ab/.", min_size=90, max_size=110),
    st.text("/é\udc80", max_size=60),
)
numbers = st.one_of(st.integers(0, 70_000), st.sampled_from([8**7 - 1, 8**7, 8**11 - 1, 8**11]))


@given(
    name=names,
    kind=st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE]),
    mode=st.integers(0, 0o7777),
    size=numbers,
    owner=numbers,
    time=st.one_of(st.just(FIXED_TIME), numbers, st.floats(0, 1e9)),
    link=st.one_of(st.just(""), names),
    user=st.sampled_from(["", "root", "é"]),
)
@example("f" * 100, tarfile.REGTYPE, 0o644, 8**11 - 1, 0, FIXED_TIME, "", "")
@example("d" * 99, tarfile.DIRTYPE, 0o755, 0, 0, FIXED_TIME, "", "")
@example("d" * 100, tarfile.DIRTYPE, 0o755, 0, 0, FIXED_TIME, "", "")
@example("d/", tarfile.DIRTYPE, 0o755, 0, 0, FIXED_TIME, "", "")
def test_headers_are_those_of_tarfile(
    name: str, kind: bytes, mode: int, size: int, owner: int, time: float, link: str, user: str
) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size, info.mtime = kind, mode, size, time  # type: ignore[assignment]
    info.uid, info.gid, info.linkname, info.uname = owner, owner, link, user
    assert header_bytes(info) == info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
