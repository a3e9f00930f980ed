"""Images fetched whole into a folder: what unpacking makes, and nothing is there before all of it is right."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry_pipelines.cli import main
from registry_pipelines.errors import (
    DigestMismatch,
    DiskFull,
    InputError,
    LayerInvalid,
    LocalError,
    NotFound,
    StateLocked,
)
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.progress import Silent
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.lazy.image import image_for
from registry_pipelines.stream.lazy.opened import open_image
from registry_pipelines.stream.pull.pulling import Pulled, pull_to_folder
from registry_pipelines.stream.pull.workplace import Workplace
from tests.answers import answered
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import Corrupt, HoldContent, NoRange, Throttle
from tests.doubles.small_disk import small_disk
from tests.evidence.parts import Counted, Key
from tests.patience import patient, until
from tests.stream.layers import pack
from tests.stream.lazy.parts import noise
from tests.stream.lazy.stacks import Entry, described, entry, layers, need_root, unpack
from tests.stream.releases import INDEXED, Layer, Streamer, push

BLOBS = r"/v2/team/app/blobs/.*"
LIMIT_S = patient(60)
LARGE = 40 << 20


def gzipped(tar: bytes) -> Layer:
    return Layer(gzip.compress(tar, 1, mtime=0), tar)


def plain(name: str, size: int) -> Layer:
    """A layer with one file that does not compress."""
    tar = pack([entry(f"data/{name}", content=random.Random(name).randbytes(size))])
    return Layer(tar, tar, media_types.OCI_LAYER)


def pulled(place: Place, folder: Path, selector: str = "v1", **more: Any) -> Pulled:
    return pull_to_folder(image_for(place, selector), folder, **more)


def tree(folder: Path) -> dict[str, tuple[Any, ...]]:
    return {path.relative_to(folder).as_posix(): described(path) for path in folder.rglob("*")}


@pytest.fixture
def faults(counted: Counted) -> Iterator[FaultRegistry]:
    with FaultRegistry(counted.server.address) as proxy:
        yield proxy


@pytest.fixture
def there(faults: FaultRegistry) -> Iterator[Place]:
    registry = DistributionRegistry(faults.address)
    yield Place(registry, "team/app")
    registry.close()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stack=st.lists(layers(), min_size=1, max_size=4), again=st.booleans())
def test_a_pulled_image_is_what_unpacking_it_makes(place: Place, stack: list[list[Entry]], again: bool) -> None:
    need_root()
    stack = [*stack, stack[0]] if again else stack  # one layer twice
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = push(place, *(gzipped(pack(entries)) for entries in stack))
        expected = unpack(stack, folder / "unpacked")
        found = pulled(place, folder / "made", image.digest)
        assert tree(folder / "made") == expected
        assert found.left_out == {}
        assert sorted(each.name for each in folder.iterdir()) == ["made", "unpacked"]


def test_a_hard_link_into_a_layer_below_takes_the_name_that_it_links_to_along(place: Place, tmp_path: Path) -> None:
    below = [entry("a", content=b"below"), entry("c", tarfile.LNKTYPE, linkname="a")]
    above = [entry("b", tarfile.LNKTYPE, linkname="a", mode=0o600)]  # as overlayfs copies it up
    push(place, *(gzipped(pack(entries)) for entries in (below, above)), tag="v1")
    pulled(place, tmp_path / "made")
    one, left, other = (tmp_path / "made" / name for name in "acb")
    assert one.read_bytes() == other.read_bytes() == left.read_bytes() == b"below"
    assert one.samefile(other) and not one.samefile(left)
    assert [each.stat().st_mode & 0o777 for each in (one, left, other)] == [0o600, 0o644, 0o600]


def test_what_this_machine_has_of_a_mount_is_not_fetched_again(
    place: Place, key: Key, faults: FaultRegistry, there: Place, tmp_path: Path
) -> None:
    need_root()
    stack = [
        [entry("a/one", content=noise(1, 300_000)), entry("a/two", content=noise(2, 90_000)), entry("b")],
        [entry("a/two", content=b"new"), entry(".wh.b")],
    ]
    image = push(place, *(gzipped(pack(entries)) for entries in stack), tag="v1")
    Streamer(place, tmp_path, key.signer).index(image, INDEXED)  # it keeps what it finds of the layers
    with open_image(place, "v1", state=tmp_path, log=print) as opened:
        opened.fill_rest()
        until(lambda: opened._filler.filled_bytes == opened._filler.total_bytes)
    found = pulled(there, tmp_path / "made", state=tmp_path)
    assert (found.stored_layers, found.fetched_bytes) == (2, 0)
    assert len(faults.requests("GET", BLOBS)) == 1  # the config
    assert tree(tmp_path / "made") == unpack(stack, tmp_path / "unpacked")
    # What is not as it was read is not used.
    [data] = [each for each in (tmp_path / "lazy" / "blocks").rglob("data") if each.stat().st_size > 300_000]
    with data.open("r+b") as file:
        file.seek(100_000)
        file.write(b"other")
    found = pulled(there, tmp_path / "again", state=tmp_path)
    assert found.stored_layers == 1
    assert tree(tmp_path / "again") == tree(tmp_path / "made")


def test_files_that_do_not_show_are_not_written_where_the_layers_are_known(place: Place, tmp_path: Path) -> None:
    hidden, shown = noise(1, 400_000), noise(2, 1000)
    stack = [[entry("big", content=hidden), entry("small", content=shown)], [entry(".wh.big")]]
    image = push(place, *(gzipped(pack(entries)) for entries in stack), tag="v1")
    store = LayerStore(tmp_path / "layers")
    node = image_for(place, "v1")
    for layer, diff_id in node.layers:
        with place.registry.open_blob(place.repository, layer.digest) as reader:
            store.read(reader, layer, diff_id)

    class Occupying(Silent):
        def begin(self, task: str, *, total_bytes: int | None = None, group: str = "") -> None:
            (tmp_path / "made" / "other").mkdir(parents=True, exist_ok=True)

    with pytest.raises(LocalError, match="cannot have its name"):
        pulled(place, tmp_path / "made", image.digest, state=tmp_path, progress=Occupying())
    # What does not show is left where it was written, until the end.
    assert not [path for path in (tmp_path / ".made.pull").rglob("files/*") if path.stat().st_size]
    shutil.rmtree(tmp_path / "made")
    assert pulled(place, tmp_path / "made", state=tmp_path).kept_layers == 2
    assert [each.name for each in (tmp_path / "made").iterdir()] == ["small"]


def test_a_killed_pull_goes_on_behind_its_last_whole_layer(
    counted: Counted, faults: FaultRegistry, there: Place, tmp_path: Path
) -> None:
    done, cut = plain("done", 3 << 20), plain("cut", 24 << 20)
    push(counted.place, done, cut, tag="v1")
    release = threading.Event()
    faults.play("GET", rf"/v2/team/app/blobs/{digest(cut)}", HoldContent(release, 10 << 20))
    words = ["stream", "pull", f"{faults.address}/team/app:v1", "--to", str(tmp_path / "made"), "--quiet"]
    command = [sys.executable, "-c", "from registry_pipelines.cli import main; main()", *words]
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    with subprocess.Popen(command, env=environment) as process:
        try:
            until(lambda: process.poll() is not None or any((tmp_path / ".made.pull").rglob("whole")))
            assert process.poll() is None
        finally:
            process.send_signal(signal.SIGKILL)
    release.set()
    faults.clear()
    assert not (tmp_path / "made").exists()
    before = len(faults.seen)
    found = pulled(there, tmp_path / "made")
    assert found.kept_layers == 1
    assert digest(done) not in " ".join(each.target for each in faults.seen[before:])
    assert sorted(each.name for each in (tmp_path / "made" / "data").iterdir()) == ["cut", "done"]
    assert not (tmp_path / ".made.pull").exists()


def test_what_was_begun_for_one_image_serves_another_that_shares_layers(place: Place, tmp_path: Path) -> None:
    shared, broken = plain("shared", 100_000), plain("broken", 100_000)
    push(place, shared, Layer(broken.blob, b"other", broken.media_type), tag="v1")
    push(place, shared, plain("other", 5000), tag="v2")

    class Behind(Silent):
        def begin(self, task: str, *, total_bytes: int | None = None, group: str = "") -> None:
            if Digest(digest(broken)).short in task:  # else its error may end the pull before the other one is whole
                until(lambda: any((tmp_path / ".made.pull").rglob("whole")))

    with pytest.raises(DigestMismatch):
        pulled(place, tmp_path / "made", progress=Behind())
    assert pulled(place, tmp_path / "made", "v2").kept_layers == 1
    assert sorted(each.name for each in (tmp_path / "made" / "data").iterdir()) == ["other", "shared"]


def digest(layer: Layer) -> str:
    return f"sha256:{hashlib.sha256(layer.blob).hexdigest()}"


def test_a_build_that_was_killed_at_any_point_goes_on(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_root()
    stack = [
        [
            *(entry(f"d/{number}", content=b"x" * number) for number in range(4)),
            entry("d/link", tarfile.LNKTYPE, linkname="d/3"),
            entry("s", tarfile.SYMTYPE, linkname="d"),
            entry("p", tarfile.FIFOTYPE, mode=0o4),
            entry("e", tarfile.DIRTYPE, mode=0),
        ]
    ]
    push(place, *(gzipped(pack(entries)) for entries in stack), tag="v1")
    expected = unpack(stack, tmp_path / "unpacked")

    class Killed(BaseException):
        pass

    calls = 0
    for last in range(1, 200):
        folder = tmp_path / str(last)
        for name in ("rename", "link", "mkdir", "symlink", "mknod", "utime", "chown"):
            real = getattr(os, name)

            def counted(*words: Any, real: Any = real, last: int = last, **more: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == last:
                    raise Killed
                return real(*words, **more)

            monkeypatch.setattr(f"registry_pipelines.stream.pull.building.os.{name}", counted)
        calls = 0
        try:
            pulled(place, folder)
        except Killed:
            monkeypatch.undo()
            assert not folder.exists()
            pulled(place, folder)
        else:
            monkeypatch.undo()
            assert last > 20
            break
        assert tree(folder) == expected
    assert tree(folder) == expected


@pytest.mark.parametrize("where", [5, 1000, 90_000])
def test_a_damaged_layer_leaves_nothing_that_looks_whole(
    counted: Counted, faults: FaultRegistry, there: Place, tmp_path: Path, where: int
) -> None:
    layer = gzipped(pack([entry("data", content=noise(1, 200_000))]))
    push(counted.place, layer, tag="v1")
    faults.play("GET", rf"/v2/team/app/blobs/{digest(layer)}", Corrupt(where))
    with pytest.raises((DigestMismatch, LayerInvalid)):
        pulled(there, tmp_path / "made")
    assert not (tmp_path / "made").exists()
    assert not any((tmp_path / ".made.pull").rglob("whole"))
    assert not any((tmp_path / ".made.pull").rglob("files"))
    faults.clear()
    pulled(there, tmp_path / "made")


def test_a_layer_that_unpacks_to_something_else_is_refused(place: Place, tmp_path: Path) -> None:
    tar = pack([entry("a", content=b"one")])
    push(place, Layer(gzip.compress(tar), pack([entry("a", content=b"two")])), tag="v1")
    with pytest.raises(DigestMismatch, match="uncompressed layer"):
        pulled(place, tmp_path / "made")
    assert not (tmp_path / "made").exists()


TRICKS = {
    "climbs": [entry("../../out", content=b"x")],
    "absolute": [entry("/etc/../../../out", content=b"x")],
    "below a link out": [entry("up", tarfile.SYMTYPE, linkname="../.."), entry("up/out", content=b"x")],
    "below an absolute link": [entry("up", tarfile.SYMTYPE, linkname="/"), entry("up/out", content=b"x")],
    "link replaced": [entry("d", tarfile.DIRTYPE), entry("d", tarfile.SYMTYPE, linkname="/tmp"), entry("d/out")],
    "hard link out": [entry("out", tarfile.LNKTYPE, linkname="../../secret")],
    "hard link through a link": [
        entry("up", tarfile.SYMTYPE, linkname=".."),
        entry("out", tarfile.LNKTYPE, linkname="up/secret"),
    ],
    "whiteout of a parent": [entry("../.wh.secret"), entry(".wh..")],
}


@pytest.mark.parametrize("name", TRICKS)
@pytest.mark.parametrize("split", [False, True], ids=["one layer", "two layers"])
def test_no_name_of_a_layer_leads_out_of_the_folder(place: Place, tmp_path: Path, name: str, split: bool) -> None:
    top = tmp_path / "top"
    top.mkdir()
    secret = top / "secret"
    secret.write_text("kept")
    entries = TRICKS[name]
    stack = [entries[:1], entries[1:]] if split else [entries]
    push(place, *(gzipped(pack(each)) for each in stack), tag="v1")
    goal = top / "deep" / "made"
    goal.parent.mkdir()
    outside = set(Path("/tmp").iterdir())
    try:
        pulled(place, goal)
    except LayerInvalid as error:
        assert "cannot be unpacked because of" in str(error)
        assert not goal.exists()
    assert secret.read_text() == "kept" and secret.stat().st_nlink == 1
    assert sorted(each.name for each in top.iterdir()) == ["deep", "secret"]
    assert {each.name for each in goal.parent.iterdir()} <= {"made", ".made.pull"}
    assert not any(each.name == "out" for each in set(Path("/tmp").iterdir()) - outside)


def test_a_registry_without_ranges_gives_one_stream(
    counted: Counted, faults: FaultRegistry, there: Place, tmp_path: Path
) -> None:
    large = plain("large", LARGE)
    push(counted.place, large, tag="v1")
    path = rf"/v2/team/app/blobs/{digest(large)}"
    faults.play("GET", path, NoRange(bytes_per_s=20e6))
    found = pulled(there, tmp_path / "made")
    assert (tmp_path / "made" / "data" / "large").stat().st_size == LARGE
    assert found.fetched_bytes == len(large.blob)
    if len(faults.requests("GET", path)) > 1:  # it tried for more
        assert "one connection" in found.notes[0]


def test_a_registry_that_is_slow_for_each_connection_is_asked_over_several(
    counted: Counted, faults: FaultRegistry, there: Place, tmp_path: Path
) -> None:
    large = plain("large", LARGE)
    push(counted.place, large, tag="v1")
    path = rf"/v2/team/app/blobs/{digest(large)}"
    faults.play("GET", path, Throttle(bytes_per_s=8e6))
    pulled(there, tmp_path / "made")
    assert len(faults.requests("GET", path)) > 1
    assert (tmp_path / "made" / "data" / "large").read_bytes() == random.Random("large").randbytes(LARGE)


def test_zstd_and_plain_layers_are_unpacked_and_others_refused(place: Place, tmp_path: Path) -> None:
    tar = pack([entry("a", content=b"one")])
    packed = zstandard.ZstdCompressor().compress(tar)
    push(place, Layer(packed, tar, media_types.OCI_LAYER_ZSTD), plain("b", 10), tag="v1")
    pulled(place, tmp_path / "made")
    assert (tmp_path / "made" / "a").read_bytes() == b"one"
    locked = Layer(tar, tar, "application/vnd.oci.image.layer.v1.tar+gzip+encrypted")
    push(place, locked, tag="v2")
    with pytest.raises(LayerInvalid, match="only who has its key"):
        pulled(place, tmp_path / "other", "v2")
    foreign = Layer(tar, tar, media_types.DOCKER_FOREIGN_LAYER, {"urls": ["https://example.com/layer"]})
    push(place, foreign, tag="v3")
    with pytest.raises(LayerInvalid, match="its publisher keeps it"):
        pulled(place, tmp_path / "other", "v3")
    sparse = pack([entry("hole", tarfile.GNUTYPE_SPARSE)])
    push(place, gzipped(sparse), tag="v4")
    with pytest.raises(LayerInvalid, match="sparse"):
        pulled(place, tmp_path / "other", "v4")
    assert not (tmp_path / "other").exists()


def test_where_it_cannot_go_is_said_before_anything_is_fetched(
    counted: Counted, faults: FaultRegistry, there: Place, tmp_path: Path
) -> None:
    push(counted.place, plain("a", 100), tag="v1")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(InputError, match="not empty"):
        pulled(there, tmp_path / "full")
    with pytest.raises(InputError, match="not empty"):
        pulled(there, Path("/"))
    with Workplace(tmp_path / "made"), pytest.raises(StateLocked):
        pulled(there, tmp_path / "made")
    with small_disk(tmp_path / "disk", 1) as disk, pytest.raises(InputError, match="a disk is mounted there"):
        pulled(there, disk)
    (tmp_path / "empty").mkdir()
    pulled(there, tmp_path / "empty")
    assert (tmp_path / "empty" / "data" / "a").exists()


def test_a_disk_without_room_is_said_before_half_is_written(
    counted: Counted, faults: FaultRegistry, there: Place, tmp_path: Path
) -> None:
    push(counted.place, plain("a", 20 << 20), tag="v1")
    quarter = random.Random(1).randbytes(1 << 20) + bytes(3 << 20)
    tar = pack([entry(f"{number}", content=quarter) for number in range(16)])
    push(counted.place, gzipped(tar), tag="v2")
    with small_disk(tmp_path / "small", 16) as disk:
        with pytest.raises(DiskFull, match=r"20\.0 MiB are to be fetched"):
            pulled(there, disk / "made")
        assert not (disk / "made").exists()
    with small_disk(tmp_path / "larger", 28) as disk:
        with pytest.raises(DiskFull, match="still to be written"):
            pulled(there, disk / "made", "v2")
        assert not (disk / "made").exists() and not any(disk.rglob("files"))


def test_what_only_root_may_set_is_counted_where_it_cannot_be_set(counted: Counted, tmp_path: Path) -> None:
    need_root()  # to give everything up that makes it root
    stack = [
        entry("bin/su", content=b"su", mode=0o4755, uid=1000),
        entry("bin/mine", content=b"su", mode=0o4755),
        entry("disk", tarfile.BLKTYPE, devmajor=8),
        entry("disk2", tarfile.LNKTYPE, linkname="disk"),
        entry("locked", tarfile.DIRTYPE, mode=0),
        entry("locked/in", content=b"in", mode=0),
        entry("able", content=b"x"),
    ]
    stack[-1][0].pax_headers["SCHILY.xattr.security.capability"] = "\1\0\0\2\0\0\0\0" + "\0" * 12
    push(counted.place, gzipped(pack(stack)), tag="v1")
    words = ["stream", "pull", f"{counted.server.address}/team/app:v1", "--to", str(tmp_path / "made")]
    done = subprocess.run(
        [
            *("setpriv", "--bounding-set", "-all", "--inh-caps", "-all"),
            *(sys.executable, "-c", "from registry_pipelines.cli import main; main()", *words),
        ],
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")},
        capture_output=True, text=True, timeout=LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert set(done.stderr.splitlines()) >= {
        "2 files not made: devices",
        "1 file not given to the owners that the image names",
        "1 file without the set-ID bits that would make them start as another user",
        "1 file without some extended attributes",
    }
    made = tmp_path / "made"
    modes = {path.name: path.stat().st_mode & 0o7777 for path in (made / "bin").iterdir()}
    assert modes == {"su": 0o755, "mine": 0o4755}
    assert {path.name for path in made.iterdir()} == {"bin", "locked", "able"}


def test_the_command_says_what_it_did(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    push(place, plain("a", 100), tag="v1", config={"Cmd": ["/data/a"]})
    name = f"{place.registry.name}/{place.repository}:v1"
    ran = CliRunner().invoke(main, ["stream", "pull", name, "--to", str(tmp_path / "made"), "--json"])
    found = answered(ran.stdout)["pull"]
    assert ran.exit_code == 0 and found["files"] == 1 and found["config"]["Cmd"] == ["/data/a"]
    ran = CliRunner().invoke(main, ["stream", "pull", name, "--to", str(tmp_path / "made")])
    assert ran.exit_code == InputError.exit_code and "not empty" in ran.stderr
    ran = CliRunner().invoke(main, ["stream", "pull", name, "--to", str(tmp_path / "a"), "--namespace", "x"])
    assert ran.exit_code == InputError.exit_code and "is about containerd" in ran.stderr
    ran = CliRunner().invoke(main, ["stream", "pull", f"{name}2", "--to", str(tmp_path / "a")])
    assert ran.exit_code == NotFound.exit_code and not (tmp_path / "a").exists()
    words = ["stream", "pull", name, "--to", str(tmp_path / "a"), "--platform", "linux/s390x"]
    ran = CliRunner().invoke(main, words)
    assert ran.exit_code == InputError.exit_code and "linux/s390x was asked for" in ran.stderr
    assert not (tmp_path / "a").exists()
