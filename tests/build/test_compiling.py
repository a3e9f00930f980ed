"""Byte code is made beside other work, by a bounded number of interpreters, in the order given."""

from __future__ import annotations

import marshal
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from registry_pipelines.build import compiling
from registry_pipelines.build.compiling import Compilation, Source
from registry_pipelines.errors import DiskFull
from tests.doubles.small_disk import small_disk

WAIT_S = 60.0


def module(path: str, text: bytes, before: Callable[[], object] = lambda: None) -> Source:
    def read() -> bytes:
        before()
        return text

    return Source(path, len(text), read)


def compiled(sources: list[Source]) -> dict[str, bytes]:
    with Compilation(sources) as compilation:
        return dict(compilation)


@pytest.fixture
def one_in_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "BATCH_FILES", 1)


def test_batches_do_not_change_order_or_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [module(f"/m{i}.py", b"def (:" if i % 7 == 0 else b"x = %d\n" % i) for i in range(40)]
    whole = compiled(sources)
    assert list(whole) == [f"/m{i}.py" for i in range(40) if i % 7]
    assert marshal.loads(whole["/m3.py"][16:]).co_filename == "/m3.py"
    monkeypatch.setattr(compiling, "BATCH_FILES", 3)
    assert list(compiled(sources)) == list(whole)


def test_it_goes_on_beside_other_work() -> None:
    begun = threading.Event()
    with Compilation([module("/m.py", b"x = 1\n", begun.set)]) as compilation:
        assert begun.wait(WAIT_S), "it waits until somebody asks for its answer"
        assert [path for path, _ in compilation] == ["/m.py"]


@pytest.mark.usefixtures("one_in_a_batch")
def test_all_compilations_together_run_one_interpreter_per_core() -> None:
    lock = threading.Lock()
    busy, most = 0, 0
    full = threading.Event()

    def enter() -> None:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
            if busy == compiling.CORES:
                full.set()
        full.wait(WAIT_S)
        with lock:
            busy -= 1

    sources = [module(f"/m{i}.py", b"", enter) for i in range(2 * compiling.CORES)]
    with Compilation(sources) as one, Compilation(sources) as other:
        assert len([*one, *other]) == 4 * compiling.CORES
    assert most == compiling.CORES


@pytest.mark.usefixtures("one_in_a_batch")
def test_a_layer_that_fails_does_not_compile_the_rest() -> None:
    leave = threading.Event()
    read = []

    def before() -> None:
        leave.wait(WAIT_S)
        read.append(1)

    with suppress(KeyError), Compilation([module(f"/m{i}.py", b"", before) for i in range(500)]):
        leave.set()
        raise KeyError
    assert len(read) < 500


def test_a_source_that_cannot_be_read_fails_the_layer() -> None:
    def fail() -> None:
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        compiled([module("/m.py", b"", fail)])


@pytest.mark.parametrize("kib", [600, 2000], ids=["for what comes back", "for what is sent"])
def test_a_full_disk_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kib: int) -> None:
    text = b"".join(b"name_%06d = 'text %06d'\n" % (i, i) for i in range(kib * 1024 // 30))
    with small_disk(tmp_path / "small", 1) as folder:
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        with pytest.raises(DiskFull):
            compiled([module("/m.py", text)])
