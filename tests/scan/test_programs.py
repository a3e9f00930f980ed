"""Go programs and Java archives: what they say of themselves, against Go's own reader, and archives that are traps."""

from __future__ import annotations

import base64
import io
import struct
import subprocess
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan import java_archives
from registry_pipelines.scan.advisories import AdvisoryStore
from registry_pipelines.scan.facts import AnyFact, GoModule, GoProgram, JavaArchive
from registry_pipelines.scan.go_programs import go_release, read_go
from registry_pipelines.scan.java_archives import read_java_file
from registry_pipelines.scan.match import match
from registry_pipelines.scan.report import PlatformPackages
from registry_pipelines.scan.sbom import scan_image
from tests.needs import missing
from tests.scan.images import DEBIAN, Files, make_tar, push_image

Peer = Callable[[str], str]
MARK = b"\xff Go buildinf:"
BEGIN, END = bytes.fromhex("3077af0c9274080241e1c107e6d618e6"), bytes.fromhex("f932433186182072008242104116d8f2")
MODULES = (
    "path\texample.com/App/cmd\nmod\texample.com/App\t(devel)\t\n"
    "dep\tgithub.com/BurntSushi/toml\tv1.2.0\th1:x\ndep\tgolang.org/x/old\tv0.1.0\n=>\tgolang.org/x/new\tv0.2.0\th1:y\n"
    "dep\texample.com/local\tv1.0.0\n=>\t./local\t\t\nbuild\t-compiler=gc\n"
)
EXPECTED = (
    GoModule(path="github.com/BurntSushi/toml", version="v1.2.0"),
    GoModule(path="golang.org/x/new", version="v0.2.0"),
    GoModule(path="example.com/local"),
)


def length(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def inline(go: str, modules: str, *, padding: int = 0) -> bytes:
    """A program as Go 1.18 and later write it."""
    wrapped = BEGIN + modules.encode() + END if modules else b""
    texts = length(len(go)) + go.encode() + length(len(wrapped)) + wrapped
    return b"\x7fELF\2\1" + bytes(8186 + padding) + MARK + bytes([0, 2]) + bytes(16) + texts + bytes(100)


def pointed(go: str, modules: str, *, wide: bool, big: bool) -> bytes:
    """A program as Go before 1.18 wrote it: one part of texts, one of data, at other addresses than in the file."""
    order, word = ">" if big else "<", "Q" if wide else "I"
    size = 8 if wide else 4
    texts = b"go1.9.9" + go.encode() + b"go1.8go1.7\0" + BEGIN + modules.encode() + END
    texts += bytes(-len(texts) % 16)
    at, base = 0x1000, 0x400000
    data_at, data_base = at + len(texts), base + 0x100000
    data = MARK + bytes([size, int(big)]) + struct.pack(f"{order}2{word}", data_base + 64, data_base + 96)
    data = data.ljust(64, b"\0") + struct.pack(f"{order}2{word}", base + 7, len(go))
    data = data.ljust(128, b"\0")
    segments = [(base, at, len(texts)), (data_base, data_at, len(data))]
    head = b"\x7fELF" + bytes([2 if wide else 1, 2 if big else 1]) + bytes(10)
    if wide:
        head += struct.pack(f"{order}HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
        rows = [struct.pack(f"{order}IIQQQQQQ", 1, 6, off, addr, addr, n, n, 4096) for addr, off, n in segments]
    else:
        head += struct.pack(f"{order}HHIIIIIHHHHHH", 2, 3, 1, 0, 52, 0, 0, 52, 32, 2, 0, 0, 0)
        rows = [struct.pack(f"{order}IIIIIIII", 1, off, addr, addr, n, n, 6, 4096) for addr, off, n in segments]
    return (head + b"".join(rows)).ljust(at, b"\0") + texts + data


def read(raw: bytes, *, step: int = 1 << 20, old: bool = True) -> GoProgram | None:
    """In pieces as a layer gives them: parts of buffers that are used again."""
    pieces = (memoryview(bytearray(raw[start : start + step])) for start in range(4096, len(raw), step))
    return read_go(pieces, raw[:4096], "app", old=old)


@pytest.mark.parametrize("step", [1 << 20, 4096, 37])
def test_modules_as_the_linker_writes_them_now(step: int) -> None:
    raw = inline("go1.21.3 X:boringcrypto", MODULES)
    # A program that reads other programs holds the mark as data.
    for program in (raw, raw[:4096] + MARK + b"\0\2" + bytes(50) + raw[4096:]):
        for old in (True, False):
            assert read(program, step=step, old=old) == GoProgram(
                name="app", go="1.21.3", main=GoModule(path="example.com/App"), modules=EXPECTED, problem=""
            )
    assert read(raw.replace(MARK, bytes(len(MARK))), step=step, old=False) is None


@pytest.mark.parametrize("step", [1 << 20, 37])
@pytest.mark.parametrize(("wide", "big"), [(True, False), (True, True), (False, False), (False, True)])
def test_modules_behind_pointers_as_it_wrote_them_before_1_18(wide: bool, big: bool, step: int) -> None:
    found = read(pointed("go1.16.5", MODULES, wide=wide, big=big), step=step)
    assert found is not None and (found.go, found.modules) == ("1.16.5", EXPECTED)


def test_a_version_that_is_not_found_leaves_the_modules() -> None:
    raw = pointed("go1.16.5", MODULES, wide=True, big=False).replace(MARK, bytes(len(MARK)))
    found = read(raw)
    assert found is not None and found.modules == EXPECTED and found.problem and not found.go


def test_versions_of_go() -> None:
    versions = {"go1.20": "1.20.0", "go1.21rc2": "1.21.0-rc.2", "go1.9.7": "1.9.7", "go1.22.1 X:x": "1.22.1"}
    assert {text: go_release(text) for text in versions} == versions
    assert not go_release("devel go1.23-abc") and not go_release("go1")


@pytest.mark.long  # CI installs no Go
def test_programs_of_go_itself() -> None:
    folder = Path("/usr/local/go/src/debug/buildinfo/testdata")
    if not folder.is_dir():
        missing("Go's own test programs are not here (Go 1.25 in /usr/local/go has them)")
    old = base64.b64decode((folder / "go117/go117.base64").read_bytes())
    assert read(old) == GoProgram(name="app", go="1.17.0", main=GoModule(path="example.com/go117"))
    assert read(base64.b64decode((folder / "notgo/notgo.base64").read_bytes())) is None


@pytest.mark.long  # CI installs neither Go nor soci
@pytest.mark.peer("go")
@pytest.mark.parametrize("program", ["soci", "cosign"])
def test_modules_are_those_that_go_reads(program: str, peer: Peer) -> None:
    go, path = peer("go"), Path(peer(program)).resolve()
    answer = subprocess.run([go, "version", "-m", str(path)], capture_output=True, text=True, check=True)
    modules: list[tuple[str, str]] = []
    for fields in (line.strip().split("\t") for line in answer.stdout.splitlines()[1:]):
        if fields[0] == "dep":
            modules.append((fields[1], fields[2]))
        elif fields[0] == "=>":
            modules[-1] = (fields[1], fields[2])
    with path.open("rb") as stream:
        head = stream.read(4096)
        found = read_go(iter(lambda: stream.read(1 << 20), b""), head, program, old=True)
    assert found is not None
    assert sorted((module.path, module.version) for module in found.modules) == sorted(modules)
    assert answer.stdout.splitlines()[0].endswith(f"go{found.go}")


@settings(deadline=None, max_examples=300)
@given(st.booleans(), st.integers(0, 9000), st.integers(0, 400), st.binary(max_size=60), st.sampled_from([7, 1 << 16]))
def test_any_program_gives_a_fact_or_nothing(old: bool, at: int, cut: int, noise: bytes, step: int) -> None:
    raw = pointed("go1.16.5", MODULES, wide=True, big=False) if old else inline("go1.21.3", MODULES)
    fact = read(raw[:at] + noise + raw[at + cut :], step=max(step, 64))
    if fact is not None:
        assert msgspec.json.decode(msgspec.json.encode(fact), type=AnyFact) == fact


def pom(group: str, name: str, version: str) -> dict[str, bytes]:
    text = f"#Generated\ngroupId={group}\nartifactId={name}\nversion={version}\n"
    return {f"META-INF/maven/{group}/{name}/pom.properties": text.encode()}


def jar(files: Mapping[str, bytes], *, manifest: str = "") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        if manifest:
            archive.writestr("META-INF/MANIFEST.MF", f"Manifest-Version: 1.0\r\n{manifest}\r\n\r\nName: x\r\n")
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


LOG4J = jar(pom("org.apache.logging.log4j", "log4j-core", "2.14.1"), manifest="Bundle-License: Apache-2.0")


def named(archive: JavaArchive) -> list[tuple[str, str, str, str, bool]]:
    return [(each.group, each.name, each.version, each.path, each.main) for each in archive.artifacts]


def test_archives_inside_archives() -> None:
    inner = jar({**pom("g", "shaded", "1.0"), **pom("h", "guava", "31.0")})
    app = jar(
        {**pom("com.example", "app", "1.0"), "BOOT-INF/lib/log4j-core-2.14.1.jar": LOG4J, "lib/shaded-1.0.jar": inner}
    )
    found = read_java_file(io.BytesIO(app), "renamed.jar")
    assert not found.problems
    assert named(found) == [
        ("com.example", "app", "1.0", "", True),
        ("org.apache.logging.log4j", "log4j-core", "2.14.1", "BOOT-INF/lib/log4j-core-2.14.1.jar", True),
        ("g", "shaded", "1.0", "lib/shaded-1.0.jar", True),
        ("h", "guava", "31.0", "lib/shaded-1.0.jar", False),
    ]
    assert found.artifacts[1].licenses == ("Apache-2.0",)


def test_archives_that_maven_did_not_make() -> None:
    by_manifest = jar({}, manifest="Bundle-SymbolicName: org.ex\r\n ample;singleton:=true\r\nBundle-Version: 1.2.3")
    assert named(read_java_file(io.BytesIO(by_manifest), "x.jar")) == [("", "org.example", "1.2.3", "", True)]
    assert named(read_java_file(io.BytesIO(jar({"A.class": b""})), "x-9.jar")) == [("", "x-9.jar", "", "", True)]
    several = jar({**pom("a", "b", "1"), **pom("c", "d", "2")})
    assert named(read_java_file(io.BytesIO(several), "fat.jar")) == [
        ("", "fat.jar", "", "", True),
        ("a", "b", "1", "", False),
        ("c", "d", "2", "", False),
    ]


def nested(depth: int) -> bytes:
    raw = LOG4J
    for _ in range(depth):
        raw = jar({"inner.jar": raw})
    return raw


def bomb() -> bytes:
    return jar({"inner.jar": bytes(64 << 20)})


def too_many_members() -> bytes:
    """A list of members that claims more than is read."""
    raw = bytearray(jar({"a": b""}))
    at = raw.rindex(b"PK\5\6")
    raw[at + 12 : at + 16] = (java_archives.MAX_DIRECTORY_BYTES + 1).to_bytes(4, "little")
    return bytes(raw)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (nested(12), "archives inside each other"),
        (bomb(), "a decompression bomb"),
        (too_many_members(), "list of members has"),
        (LOG4J[: len(LOG4J) // 2], "no list of members"),
        (b"", "no list of members"),
        (jar({"META-INF/maven/a/b/pom.properties": b"groupId=${x}\n"}), "no usable groupId"),
    ],
)
def test_traps_are_named_and_not_walked_into(raw: bytes, reason: str) -> None:
    found = read_java_file(io.BytesIO(raw), "trap.jar")
    assert any(reason in problem for problem in found.problems), found.problems
    assert found.artifacts


def test_marks_that_ask_for_long_texts_cost_no_more_than_their_bytes() -> None:
    """Each of them would have four megabytes copied."""
    mark = MARK + bytes([8, 2]) + bytes(16) + b"\xff\xff\xff\x01" + b"A" * 12
    assert read(b"\x7fELF\2\1" + mark * (16 * 1024 * 1024 // len(mark))) is None


def test_a_program_that_points_beyond_any_file_is_read_all_the_same() -> None:
    assert read(b"\x7fELF\2\1" + b"\xff" * 8000) is None
    assert read(b"\x7fELF\1\2" + b"\xff" * 8000) is None


def test_texts_that_are_blanks_or_lines_without_end_are_read_once() -> None:
    """Looking for the end of 250,000 blanks from each of them on takes minutes, and a text that grows by letters."""
    blanks = " " * (java_archives.MAX_TEXT_BYTES - 100)
    odd = {"META-INF/maven/g/a/pom.properties": f"groupId=g\nartifactId=a{blanks}b\nversion=1".encode()}
    found = read_java_file(io.BytesIO(jar(odd, manifest="Bundle-Version: 1" + "\n 0" * 80_000 + "\n")), "x.jar")
    assert "has no usable groupId" in found.problems[0]
    assert (
        read_java_file(io.BytesIO(jar({}, manifest="A: b\n c\n d\nBundle-Version: 1\n .2\n")), "x.jar")
        .artifacts[0]
        .version
        == "1.2"
    )


def test_all_archives_of_a_layer_unpack_to_no_more_than_one_may(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = {"lib/inner.jar": jar(pom("g", "inner", "1"))}
    monkeypatch.setattr(java_archives, "MAX_LAYER_BYTES", 1_500)
    layer = {f"app/{number}.jar": jar(inner | pom("g", f"app{number}", "1")) for number in range(9)}
    found = scan(place, layer)
    reasons = [unknown.reason for unknown in found.unknowns if unknown.kind == "unreadable"]
    assert reasons and all("all archives of the layer unpack to more than" in reason for reason in reasons)
    assert {"app0", "inner"} <= {component.name.rpartition(":")[2] for component in found.components}


def test_what_is_inside_is_bounded_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = jar({f"{number}.jar": jar({"x": bytes(range(256)) * 8}) for number in range(40)})
    monkeypatch.setattr(java_archives, "MAX_INNER", 10)
    found = read_java_file(io.BytesIO(raw), "many.jar")
    assert len(found.artifacts) == 11 and "more than 10 archives" in found.problems[0]
    monkeypatch.setattr(java_archives, "MAX_INNER_BYTES", 1000)
    found = read_java_file(io.BytesIO(raw), "many.jar")
    assert len(found.artifacts) < 11 and "more than 1000 bytes" in found.problems[0]


SEED = jar({**pom("g", "a", "1"), "x.jar": LOG4J})


@settings(deadline=None, max_examples=300)
@given(st.integers(0, len(SEED)), st.integers(0, len(SEED)), st.binary(max_size=40))
def test_any_archive_gives_a_fact(start: int, stop: int, noise: bytes) -> None:
    for raw in (noise, SEED[:start], SEED[:start] + noise + SEED[stop:]):
        fact: AnyFact = read_java_file(io.BytesIO(raw), "any.jar")
        assert msgspec.json.decode(msgspec.json.encode(fact), type=AnyFact) == fact


def scan(place: Place, *layers: Files | bytes) -> PlatformPackages:
    (found,) = scan_image(place, push_image(place, layers), state=Path(str(place.registry.name)).parent / "state")
    return found


def test_programs_and_archives_of_an_image(place: Place) -> None:
    app = jar({**pom("com.example", "app", "1.0"), "lib/log4j-core-2.14.1.jar": LOG4J})
    files: Files = {"usr/local/bin/tool": inline("go1.21.3", MODULES), "opt/app.jar": app}
    found = scan(place, make_tar(files, executable=["usr/local/bin/tool"]))
    by_purl = {component.purl: component for component in found.components}
    app_purl, log4j = "pkg:maven/com.example/app@1.0", "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1"
    assert by_purl[log4j].inside == app_purl and by_purl[log4j].declared
    assert by_purl[log4j].name == "org.apache.logging.log4j:log4j-core" and by_purl[log4j].ecosystem == "Maven"
    assert by_purl[log4j].locations == ("opt/app.jar!/lib/log4j-core-2.14.1.jar",)
    standard = by_purl["pkg:golang/stdlib@1.21.3"]
    assert (standard.name, standard.ecosystem, standard.inside) == ("stdlib", "Go", "pkg:golang/example.com/App")
    assert by_purl["pkg:golang/github.com/BurntSushi/toml@v1.2.0"].name == "github.com/BurntSushi/toml"
    assert all(len(component.layers) == 1 for component in found.components)
    assert found.unattributed is not None and found.unattributed.files == 0


def test_a_program_of_the_distribution_until_something_lies_over_it(place: Place) -> None:
    program = inline("go1.19.8", MODULES)
    base: dict[str, bytes | str] = {
        **DEBIAN,
        "usr/bin/tool": program,
        "var/lib/dpkg/info/libc6:amd64.list": "/lib/x86_64-linux-gnu/libc.so.6\n/usr/bin/tool\n",
    }
    lower = make_tar(base, executable=["usr/bin/tool"])
    owned = scan(place, lower)
    assert {item.os_owned for item in owned.components if item.type == "golang"} == {"deb libc6"}
    upper = make_tar({"usr/bin/tool": inline("go1.21.3", MODULES)}, executable=["usr/bin/tool"])
    over = scan(place, lower, upper)
    assert {item.os_owned for item in over.components if item.type == "golang"} == {""}


def test_what_the_distribution_owns_needs_no_advisories_of_its_own(place: Place, pypa: AdvisoryStore) -> None:
    files: dict[str, bytes | str] = {
        **DEBIAN,
        "usr/bin/tool": inline("go1.19.8", MODULES),
        "usr/share/java/own.jar": jar({}),
        "usr/share/java/known.jar": LOG4J,
        "opt/tool": inline("go1.20.1", ""),
        "var/lib/dpkg/info/libc6:amd64.list": "/lib/x86_64-linux-gnu/libc.so.6\n/usr/bin/tool\n"
        "/usr/share/java/own.jar\n/usr/share/java/known.jar\n",
    }
    found = scan(place, make_tar(files, executable=["usr/bin/tool", "opt/tool"]))
    # A jar that says nothing of itself is the package's file, and no component.
    assert [item.purl for item in found.components if item.type in ("generic", "maven")] == [
        "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1"
    ]
    report = match([found], pypa)
    uncovered = [unknown.subject for unknown in report.unknowns if not unknown.subject.startswith("pkg:deb/")]
    assert uncovered == ["pkg:golang/stdlib@1.20.1"]
    assert report.unattributed == found.unattributed
