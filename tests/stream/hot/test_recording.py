"""Recordings: what is written is read, what a stranger writes is held against the rules, and what other images take."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as some

from registry_pipelines.errors import InputError, RecordingInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.stream.hot.recording import (
    PAGE_BYTES,
    RecordedFile,
    Recording,
    decode,
    encode,
    inherit,
    merge_recordings,
    with_contents,
)
from registry_pipelines.stream.hot.touches import Touches

IMAGE, OTHER = Digest.of(b"image"), Digest.of(b"other")
NAMES = ("bin/sh", "lib/a.so", "lib/b.so", "x\udcff", "ü/é")
SIZE = 40 * PAGE_BYTES - 7

Page = tuple[str, int]


def content(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def recording(pages: Iterable[Page], *, image: Digest = IMAGE, known: bool = True) -> Recording:
    """Of files of ``SIZE`` bytes, whose content is told by their path."""
    numbers: dict[str, int] = {}
    touches = Touches()
    for name, page in pages:
        touches.add(numbers.setdefault(name, len(numbers)), page, 1)
    files = tuple(RecordedFile(name, SIZE, content(name) if known else "") for name in numbers)
    return Recording(image=image, files=files, touches=tuple(touches.list), command=("a", "\udcfe"))


def pages(found: Recording) -> list[Page]:
    return [(found.files[number].path, page + more) for number, page, count in found.touches for more in range(count)]


some_pages = some.lists(some.tuples(some.sampled_from(NAMES), some.integers(0, 39)), max_size=60)


@given(some_pages)
def test_each_page_stands_once_where_it_was_first_read_and_comes_back_as_written(read: list[Page]) -> None:
    made = recording(read)
    assert pages(made) == list(dict.fromkeys(read))
    assert decode(encode(made)) == made and encode(made) == encode(decode(encode(made)))
    assert made.pages == len(set(read)) and made.page_bytes == sum(
        PAGE_BYTES - 7 * (page == 39) for _, page in set(read)
    )


@given(some.lists(some_pages, min_size=1, max_size=4))
def test_a_union_has_all_pages_and_keeps_the_order_of_the_first(reads: list[list[Page]]) -> None:
    merged = pages(merge_recordings([recording(read) for read in reads]))
    assert len(merged) == len(set(merged)) and set(merged) == {page for read in reads for page in read}
    first = dict.fromkeys(reads[0])
    assert [page for page in merged if page in first] == list(first)
    decode(encode(merge_recordings([recording(read) for read in reads])))


def test_what_is_new_in_a_union_comes_behind_what_was_read_before_it() -> None:
    a, b = "lib/a.so", "lib/b.so"
    first = recording([(a, 0), (a, 5), (a, 9)])
    second = recording([(b, 0), (a, 5), (b, 1), (b, 2), (a, 0), (b, 3)])
    assert pages(merge_recordings([first, second])) == [
        *((b, 0), (a, 0), (b, 3), (a, 5), (b, 1), (b, 2), (a, 9)),
    ]


def test_a_union_knows_what_one_of_them_knows_and_is_of_one_image() -> None:
    blind = msgspec.structs.replace(recording([("bin/sh", 0)], known=False), gpu=True, seconds=9.0)
    merged = merge_recordings([recording([("lib/a.so", 0), ("bin/sh", 1)]), blind])
    assert merged.gpu and merged.seconds == 9.0 and all(file.sha256 for file in merged.files)
    assert merge_recordings([blind, recording([("bin/sh", 1)])]).files[0].sha256 == content("bin/sh")
    with pytest.raises(InputError, match="different images"):
        merge_recordings([recording([]), recording([], image=OTHER)])
    with pytest.raises(InputError, match="no recording"):
        merge_recordings([])
    changed = msgspec.structs.replace(blind, files=(RecordedFile("bin/sh", 5), *blind.files[1:]), touches=((0, 0, 1),))
    with pytest.raises(RecordingInvalid, match="two different files 'bin/sh'"):
        merge_recordings([recording([("bin/sh", 0)]), changed])


def test_another_image_inherits_what_it_has() -> None:
    made = recording([("bin/sh", 3), ("lib/a.so", 0), ("lib/b.so", 7), ("ü/é", 1)])
    there = [
        RecordedFile("bin/sh", SIZE, content("bin/sh")),
        RecordedFile("copy/of", SIZE, content("lib/a.so")),
        RecordedFile("opt/lib/a.so", SIZE, content("lib/a.so")),  # moved; of the two the one that is more like it
        RecordedFile("lib/b.so", SIZE, content("changed, of the same size")),
        RecordedFile("ü/é", SIZE + 1, content("changed")),
    ]
    found = inherit(made, OTHER, there)
    assert found.recording.image == OTHER and (found.same, found.alike) == (2, 1)
    assert pages(found.recording) == [("bin/sh", 3), ("opt/lib/a.so", 0), ("lib/b.so", 7)]
    assert [file.path for file in found.dropped] == ["ü/é"] and found.dropped_pages == 1
    assert found.recording.files[-1].sha256 == content("changed, of the same size")
    assert decode(encode(found.recording)) == found.recording


def test_a_small_file_that_is_read_whole_is_read_whole_in_its_next_version() -> None:
    files = (RecordedFile("a.py", 9000, content("a")), RecordedFile("b.py", 9000, content("b")))
    made = Recording(image=IMAGE, files=files, touches=((0, 2, 1), (1, 0, 1), (0, 0, 2)))
    later = [RecordedFile("a.py", 17000, content("a2")), RecordedFile("b.py", 17000, content("b2"))]
    found = inherit(made, OTHER, later)
    assert pages(found.recording) == [("a.py", page) for page in range(5)] and found.alike == 1
    assert found.dropped == (files[1],)
    assert pages(inherit(made, OTHER, [RecordedFile("a.py", 0)]).recording) == []
    large = [RecordedFile("a.py", 2 << 20, content("a2"))]
    assert not inherit(made, OTHER, large).recording.touches


@given(some_pages, some.sets(some.sampled_from(NAMES)))
def test_an_image_with_the_same_files_inherits_all(read: list[Page], moved: set[str]) -> None:
    made = recording(read)
    there = [each._replace(path=f"moved/{each.path}") if each.path in moved else each for each in made.files]
    found = inherit(made, OTHER, there)
    expected = [(f"moved/{name}" if name in moved else name, page) for name, page in pages(made)]
    assert pages(found.recording) == expected and not found.dropped_pages


def test_contents_are_filled_in_where_the_size_is_the_same() -> None:
    there = [RecordedFile("bin/sh", SIZE, content("bin/sh")), RecordedFile("lib/a.so", 5, content("other"))]
    blind = recording([("bin/sh", 0), ("lib/a.so", 0)], known=False)
    filled = with_contents(blind, there)
    assert [file.sha256 for file in filled.files[:2]] == [content("bin/sh"), ""]


WRONG: Sequence[tuple[dict[str, object], str]] = [
    ({"paths": (b"/bin/sh",)}, "no path"),
    ({"paths": (b"bin/../sh",)}, "no path"),
    ({"paths": (b"",)}, "no path"),
    ({"paths": (b"a\0",)}, "no path"),
    ({"sizes": (-1,), "numbers": (), "firsts": (), "counts": ()}, "has -1 bytes"),
    ({"sha256": (b"short",)}, "no sha256"),
    ({"paths": (b"a", b"a"), "sizes": (1, 1), "sha256": (b"", b"")}, "two files with one path"),
    ({"paths": (b"a", b"b")}, "cannot be read"),
    ({"numbers": (1,)}, "no file 1"),
    ({"numbers": (-1,)}, "no file -1"),
    ({"firsts": (-1,)}, "no pages -1 to -1"),
    ({"firsts": (3,)}, "no pages 3 to 3"),
    ({"counts": (0,)}, "no pages 0 to -1"),
    ({"counts": (1 << 70,)}, "cannot be read"),
    ({"numbers": (0, 0), "firsts": (0, 1), "counts": (2, 1)}, "twice"),
    ({"seconds": float("nan")}, "nan seconds"),
    ({"image": "sha256:x"}, "cannot be read"),
    ({"sizes": (1 << 50,), "counts": ((1 << 20) + 1,)}, "1048576 is the limit"),
]


@pytest.mark.parametrize(("fields", "problem"), WRONG)
def test_what_breaks_a_rule_is_refused(fields: dict[str, object], problem: str) -> None:
    good: dict[str, object] = {"image": str(IMAGE), "paths": (b"bin/sh",), "sizes": (3 * PAGE_BYTES,), "sha256": (b"",)}
    good |= {"numbers": (0,), "firsts": (0,), "counts": (1,)}
    assert decode(_packed(good)).pages == 1
    with pytest.raises(RecordingInvalid, match=problem) as raised:
        decode(_packed(good | fields), where="there")
    assert raised.value.where == "there"


def _packed(fields: dict[str, object]) -> bytes:
    def whole(value: object) -> object:
        return float(value) if isinstance(value, int) and value > 1 << 63 else value

    plain = {name: [*map(whole, each)] if isinstance(each, tuple) else each for name, each in fields.items()}
    return zstandard.ZstdCompressor().compress(msgspec.msgpack.encode(plain))


@given(some.binary(max_size=200), some.integers(0, 400), some.integers(0, 255))
def test_damaged_bytes_are_refused(noise: bytes, place: int, byte: int) -> None:
    good = bytearray(encode(recording([("bin/sh", 0), ("lib/a.so", 3)])))
    good[place % len(good)] = byte
    for each in (noise, bytes(good), bytes(good[: place % len(good)])):
        try:
            decode(each)
        except RecordingInvalid as error:
            assert "the recording" in str(error)
    with pytest.raises(RecordingInvalid):
        decode(noise)


def test_a_small_file_that_unpacks_to_much_is_refused() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(300 << 20))
    with pytest.raises(RecordingInvalid, match="larger than any"):
        decode(bomb)
