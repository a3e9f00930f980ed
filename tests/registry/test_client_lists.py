"""Lists as registries give them: pages that are not obeyed, refused, cut or endless; names without end."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import NotFound, Refused, RegistryError
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.client.names import read_names
from registry_pipelines.registry.client.retries import NEVER
from tests.doubles.exchanges import Answer, ExchangeServer, Expect

TAGS = "/v2/app/tags/list"


def page(*tags: str, **headers: str) -> Answer:
    return Answer(200, {name.title(): value for name, value in headers.items()}, {"name": "app", "tags": list(tags)})


def asked(*expected: Expect) -> list[str]:
    with (
        ExchangeServer(*expected) as server,
        contextlib.closing(DistributionRegistry(server.address, retries=NEVER)) as registry,
    ):
        return list(registry.tags("app"))


FIRST = r"/v2/app/tags/list\?n=1000"
THOUSAND = [f"v{number:04}" for number in range(1000)]


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ('</v2/app/tags/list?n=2&last=v2>; rel="next"', r"/v2/app/tags/list\?n=2&last=v2"),
        ("<http://{address}/v2/app/tags/list?last=v2>; rel=next", r"/v2/app/tags/list\?last=v2"),
        ('<list?last=v2>; rel="next"', r"/v2/app/tags/list\?last=v2"),
        ('</v2/app/tags/list?last=v2,v1>; rel="next"', r"/v2/app/tags/list\?last=v2,v1"),
        ('</v2/app/tags/list?last=v2>; REL="NEXT"', r"/v2/app/tags/list\?last=v2"),
        ('</first>; rel="prev", </v2/app/tags/list?last=v2>; title="a, b"; rel="next last"', r"/v2/.*last=v2"),
        ('</v2/app/tags/list?next_page=gAAA%3D%3D&n=50>; rel="next"', r"/v2/app/tags/list\?next_page=gAAA%3D%3D&n=50"),
    ],
)
def test_the_next_page_is_found_however_it_is_written(link: str, target: str) -> None:
    names = asked(Expect("GET", FIRST, page("v1", "v2", link=link)), Expect("GET", target, page("v2", "v3")))
    assert list(dict.fromkeys(names)) == ["v1", "v2", "v3"]


def test_a_link_that_is_not_to_the_next_page_is_the_end() -> None:
    assert asked(Expect("GET", FIRST, page("v1", link='</v2/app/tags/list>; rel="first"'))) == ["v1"]


def test_a_page_without_link_that_looks_cut_is_followed() -> None:
    """sonatype/nexus-public#209: pages without Link."""
    names = asked(
        Expect("GET", FIRST, page(*THOUSAND)),
        Expect("GET", r"/v2/app/tags/list\?n=1000&last=v0999", page("v1000", "v1001")),
    )
    assert names == [*THOUSAND, "v1000", "v1001"]


def test_a_list_of_a_thousand_from_a_registry_without_pages_is_not_doubled() -> None:
    again = Expect("GET", r"/v2/app/tags/list\?n=1000&last=v0999", page(*THOUSAND))
    assert asked(Expect("GET", FIRST, page(*THOUSAND)), again) == THOUSAND


@pytest.mark.parametrize(
    ("status", "code"), [(400, "PAGINATION_NUMBER_INVALID"), (413, "TOO_MANY_TAGS_REQUESTED"), (400, "")]
)
def test_a_refused_page_size_is_asked_for_smaller(status: int, code: str) -> None:
    refused = Answer(status, {}, {"errors": [{"code": code, "message": "invalid number of results requested"}]})
    assert asked(Expect("GET", FIRST, refused), Expect("GET", r".*list\?n=100", page("v1"))) == ["v1"]
    bare = [Expect("GET", FIRST, refused), Expect("GET", r".*list\?n=100", refused), Expect("GET", TAGS, page("v1"))]
    assert asked(*bare) == ["v1"]


def test_a_refusal_that_is_not_about_pages_is_told() -> None:
    refused = Answer(400, {}, {"errors": [{"code": "NAME_INVALID", "message": "invalid repository name"}]})
    with pytest.raises(Refused):
        asked(Expect("GET", FIRST, refused))
    with pytest.raises(NotFound):
        asked(Expect("GET", FIRST, Answer(404, {}, {"errors": [{"code": "NAME_UNKNOWN"}]})))


@pytest.mark.parametrize("body", [b'{"name":"app","tags":null}', b'{"name":"app"}', b'{"tags":[]}', b" {} \n"])
def test_no_tags_however_they_are_written(body: bytes) -> None:
    assert asked(Expect("GET", FIRST, Answer(200, {}, body))) == []


def test_more_than_the_names_in_the_answer_is_passed_over() -> None:
    """gcr.io adds manifests and children."""
    body = b'{"child":["a"],"manifest":{"sha256:1":{"tag":["v0"],"size":"1"}},"name":"app","tags":["v\\u0031","v2"]}'
    assert asked(Expect("GET", FIRST, Answer(200, {}, body))) == ["v1", "v2"]


def pieces(body: bytes, size: int) -> Iterator[bytes]:
    yield from (body[at : at + size] for at in range(0, len(body), size))


def names(body: bytes, size: int = 7, field: str = "tags") -> list[str]:
    source = pieces(body, size)

    def readinto(buffer: memoryview) -> int:
        piece = next(source, b"")
        buffer[: len(piece)] = piece
        return len(piece)

    return list(read_names(readinto, field, where="reg"))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=4), below, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.lists(st.text(max_size=12)), st.dictionaries(st.text(max_size=5), VALUES, max_size=3), st.integers(1, 40))
def test_names_are_read_as_json_reads_them(tags: list[str], more: dict[str, object], size: int) -> None:
    document = {**more, "tags": tags}
    for indent in (None, 1):
        assert names(json.dumps(document, indent=indent, ensure_ascii=bool(indent)).encode(), size) == tags


@settings(deadline=None)
@given(st.lists(st.text(max_size=6), min_size=1, max_size=4), st.data())
def test_a_cut_list_is_an_error_wherever_it_is_cut(tags: list[str], data: st.DataObject) -> None:
    body = json.dumps({"name": "app", "tags": tags}).encode()
    cut = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(RegistryError, match="list of strings"):
        names(body[:cut])


@settings(deadline=None)
@given(st.binary(max_size=60) | st.text('{}[]:," \\abtnull1', max_size=30).map(str.encode))
def test_anything_is_a_list_or_an_error_of_ours(body: bytes) -> None:
    with contextlib.suppress(RegistryError):
        names(body)


@pytest.mark.parametrize(
    "body",
    [b"[]", b'{"tags":"v1"}', b'{"tags":{}}', b'{"tags":[1]}', b'{"tags":["a",]}', b'{"tags":["a" "b"]}', b"{} x", b"",
     b"<html>", b'{"tags":["' + b"a" * 100_000 + b'"]}'],
)  # fmt: skip
def test_what_is_no_list_is_told(body: bytes) -> None:
    with pytest.raises(RegistryError, match="list of strings"):
        names(body, 50_000)


CHILD = """
import resource, sys
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.client.names import read_names
from registry_pipelines.transfer.closure.selector import Selector

COUNT = 1_000_000
def body():
    yield b'{"repositories":['
    for start in range(0, COUNT, 1000):
        text = ",".join(f'"team/project-{number:07}/image"' for number in range(start, start + 1000))
        yield (("," if start else "") + text).encode()
    yield b"]}"
source = body()
def readinto(buffer):
    piece = next(source, b"")
    buffer[:len(piece)] = piece
    return len(piece)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
chosen = Selector(glob=("*-00000[0-9]*",)).select(read_names(readinto, "repositories", where="reg"))
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(len(chosen), after - before)
"""


def test_a_million_names_in_one_answer_need_no_memory() -> None:
    """As a list they are 90 MB, as JSON 30."""
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    count, grown_kib = map(int, done.stdout.split())
    assert count == 100
    assert grown_kib < 16 * 1024
