from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from registry_pipelines.build import compiling
from registry_pipelines.build.application import application_entries
from registry_pipelines.build.application_warnings import pointer_warnings, script_warnings
from registry_pipelines.build.builder import BuildSpec
from registry_pipelines.build.content import LayerEntry, content_job
from registry_pipelines.build.interpreter import interpreter_programs
from registry_pipelines.build.writable import writable_entries
from registry_pipelines.errors import InputError
from tests.build.layers import entries, written
from tests.patience import patient


def paths(folder: Path) -> list[str]:
    return sorted(item.path for item in application_entries(folder, "/app"))


def test_caches_and_ignored_files_stay_out(tmp_path: Path) -> None:
    for name in ("app.py", "data/model.bin", "data/raw/huge.bin", "__pycache__/app.pyc", ".git/config", ".venv/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    (tmp_path / ".dockerignore").write_text("data/raw\n")
    assert paths(tmp_path) == ["app", "app/app.py", "app/data", "app/data/model.bin"]


def test_an_exception_inside_an_ignored_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "keep").write_text("1")
    (tmp_path / "data" / "drop").write_text("1")
    (tmp_path / ".imageignore").write_text("data\n!data/keep\n")
    assert paths(tmp_path) == ["app", "app/data", "app/data/keep"]


def test_modes_owner_and_times_are_normalised(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "run.sh").chmod(0o4711)
    (tmp_path / "secretive").write_text("1")
    (tmp_path / "secretive").chmod(0o600)
    (tmp_path / "link").symlink_to("run.sh")
    job = content_job("application", application_entries(tmp_path, "/srv/app"), byte_code=False)
    there = entries(written(lambda writer: job.write(writer, lambda count: None))[0])
    assert there["srv/app/run.sh"][0].mode == 0o755
    assert there["srv/app/secretive"][0].mode == 0o644
    assert there["srv/app/link"][0].linkname == "run.sh"
    assert {info.mtime for info, _ in there.values()} == {315532800}


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "a/../../outside"])
def test_links_that_leave_the_folder_are_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(InputError, match="leaves the application folder"):
        application_entries(tmp_path, "/app")


def test_sockets_and_pipes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="only files, folders and links"):
        application_entries(tmp_path, "/app")
    (tmp_path / "pipe").unlink()
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
        with pytest.raises(InputError, match="only files, folders and links"):
            application_entries(tmp_path, "/app")


def test_folders_of_the_images_user_stand_in_a_layer_of_their_own() -> None:
    """A container engine gives a new volume the owner and rights of the folder that it stands for."""
    found = writable_entries(BuildSpec(name="a", base="python", writable=("/state", "/state/keys", "/state")))
    job = content_job("writable folders", found, byte_code=False)
    there = entries(written(lambda writer: job.write(writer, lambda count: None))[0])
    assert list(there) == ["state", "state/keys"]
    assert {(info.uid, info.gid, info.mode) for info, _ in there.values() if info.isdir()} == {(65532, 65532, 0o750)}
    [mine] = writable_entries(BuildSpec(name="a", base="a/b:1", user="1000:1000", writable=("/x",)))
    assert mine.owner == 1000


@pytest.mark.parametrize("path", ["", "state", "/", "/a/../b", "/a//b", "/a/", "/a\0"])
def test_a_folder_that_is_no_absolute_path_is_refused(path: str) -> None:
    with pytest.raises(InputError, match="not an absolute path"):
        writable_entries(BuildSpec(name="a", writable=(path,)))


@pytest.mark.parametrize("user", ["", "app", "app:1000"])
def test_folders_of_a_user_without_a_number_are_refused(user: str) -> None:
    with pytest.raises(InputError, match="is not known"):
        writable_entries(BuildSpec(name="a", base="a/b:1", user=user, writable=("/x",)))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        application_entries(tmp_path / "gone", "/app")


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))).write_text("1")
    with pytest.raises(InputError, match="not UTF-8"):
        application_entries(tmp_path, "/app")


def test_a_file_that_changes_while_it_is_packed_fails_the_layer(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("before")
    job = content_job("application", [LayerEntry("file", source=file)], byte_code=False)
    file.write_text("behind")
    with pytest.raises(InputError, match="changed while"):
        written(lambda writer: job.write(writer, lambda count: None))


def test_a_file_that_goes_while_it_is_packed_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("here")
    job = content_job("application", [LayerEntry("file", source=file)], byte_code=False)
    file.unlink()
    with pytest.raises(InputError, match="the file cannot be read: No such file") as caught:
        written(lambda writer: job.write(writer, lambda count: None))
    assert caught.value.where == str(file)


def test_a_module_that_changes_after_it_was_packed_fails_the_layer(tmp_path: Path) -> None:
    """Its byte code would be of another text, which no interpreter ever compares with the source."""
    file = tmp_path / "module.py"
    file.write_text("VALUE = 1\n")
    job = content_job("application", [LayerEntry("module.py", source=file)], byte_code=True)
    full, leave = threading.Barrier(compiling.CORES + 1), threading.Event()

    def hold() -> bytes:
        full.wait(patient(60))
        leave.wait(patient(60))
        return b""

    def change(count: int) -> None:
        file.write_text("VALUE = 2\n")
        leave.set()

    whole_batches = [compiling.Source("/m.py", compiling.BATCH_BYTES, hold)] * compiling.CORES
    with compiling.Compilation(whole_batches):
        full.wait(patient(60))  # nothing else is compiled until these leave
        with pytest.raises(InputError, match="changed while"):
            written(lambda writer: job.write(writer, change))


def test_the_key_follows_content_and_mode(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("1")
    first = content_job("application", application_entries(tmp_path, "/app"), byte_code=False).key
    assert content_job("application", application_entries(tmp_path, "/app"), byte_code=False).key == first
    (tmp_path / "f").chmod(0o755)
    assert content_job("application", application_entries(tmp_path, "/app"), byte_code=False).key != first


def test_git_lfs_pointers_are_said(tmp_path: Path) -> None:
    assert pointer_warnings(application_entries(tmp_path, "/")) == []
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345\n"
    for number in range(5):
        (tmp_path / f"model{number}.bin").write_text(text)
    (tmp_path / "README").write_text("version https://git-lfs.github.com/spec/v1\n" + "long " * 1000)
    (tmp_path / ".dockerignore").write_text("model0.bin\n")
    assert pointer_warnings(application_entries(tmp_path, "/")) == [
        "Git LFS pointers are packed, not their content (git lfs pull): model1.bin, model2.bin, model3.bin, and 1 more"
    ]


def test_programs_that_the_base_cannot_start_are_said(tmp_path: Path) -> None:
    scripts = {
        "run.sh": b"#!/bin/sh\n",
        "env.py": b"#! /usr/bin/env python3\n",
        "own.py": b"#!/usr/local/bin/python3 -u\n",
        "empty": b"",
        "program": b"\x7fELF" + b"\0" * 300,
        "notes.txt": b"#!/bin/sh\n",
    }
    for name, content in scripts.items():
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o644 if name == "notes.txt" else 0o755)
    assert script_warnings(application_entries(tmp_path, "/"), interpreter_programs()) == [
        "the base has no interpreter for programs that are packed: env.py (/usr/bin/env), run.sh (/bin/sh)"
    ]
    assert (
        script_warnings(application_entries(tmp_path, "/"), ["/bin/sh", "/usr/bin/env", "/usr/local/bin/python3"]) == []
    )
