from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.build.install import Scheme
from registry_pipelines.build.target import RUNNING_PYTHON
from registry_pipelines.errors import WheelInvalid
from tests.build.layers import SITE, entries, unpack, wheel_layer
from tests.build.wheels import make_wheel, record_hash

RUNNING = Scheme.of(RUNNING_PYTHON)

RICH = {
    "rich_pkg/__init__.py": b"def main():\n    print('rich')\n",
    "rich_pkg/broken.py": b"def (:\n",
    "rich_pkg/data.bin": bytes(range(256)) * 40,
    "rich_pkg/empty.txt": b"",
    "rich_pkg/tool": b"#!/bin/sh\n",
    "rich_pkg-1.0.data/scripts/rich-script": b"#!python\nprint('script')\n",
    "rich_pkg-1.0.data/scripts/rich-shell": b"#!/bin/sh\nexit 0\n",
    "rich_pkg-1.0.data/data/share/rich/settings.ini": b"[a]\n",
    "rich_pkg-1.0.data/headers/rich.h": b"#pragma once\n",
    "rich_pkg-1.0.data/purelib/rich_more.py": b"MORE = 2\n",
    "rich_pkg-1.0.data/platlib/rich_lib.py": b"LIB = 3\n",
}
ENTRY_POINTS = "[console_scripts]\nrich = rich_pkg:main\n\n[gui_scripts]\nrich-gui = rich_pkg:main [extra]\n"


def rich_wheel(folder: Path) -> Path:
    return make_wheel(folder, "rich-pkg", files=RICH, entry_points=ENTRY_POINTS, executable=("rich_pkg/tool",))


def pip(*arguments: str) -> str:
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_ROOT_USER_ACTION": "ignore"}
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def record_of(content: bytes) -> dict[str, tuple[str, str]]:
    return {path: (hashed, size) for path, hashed, size in csv.reader(io.StringIO(content.decode()))}


def test_the_layer_holds_what_pip_installs(tmp_path: Path) -> None:
    """Against pip: same paths, same contents (but for scripts, INSTALLER and time-based byte code), same RECORD."""
    wheel = rich_wheel(tmp_path)
    pip(
        "install",
        "--no-deps",
        "--prefix",
        "/usr/local",
        "--root",
        str(tmp_path / "pip"),
        "--ignore-installed",
        str(wheel),
    )
    installed = {
        str(path.relative_to(tmp_path / "pip")): path for path in (tmp_path / "pip").rglob("*") if path.is_file()
    }
    # pip runs in a virtual environment here, where headers have a folder of their own; images have none.
    site_include = f"include/site/python{RUNNING_PYTHON}"
    installed = {
        name.replace(site_include, f"include/python{RUNNING_PYTHON}"): path for name, path in installed.items()
    }
    site = RUNNING.site_packages
    only_pips = {f"{site}/rich_pkg-1.0.dist-info/{name}" for name in ("REQUESTED", "direct_url.json")}
    ours = entries(wheel_layer(wheel, scheme=RUNNING, byte_code=True))
    files = {name: content for name, (info, content) in ours.items() if info.isfile()}
    assert files.keys() == installed.keys() - only_pips
    written = {name for name in files if name.endswith((".pyc", "/RECORD", "/INSTALLER")) or "/bin/" in name}
    for name in files.keys() - written:
        assert files[name] == installed[name].read_bytes()
        assert bool(ours[name][0].mode & 0o100) == bool(installed[name].stat().st_mode & 0o100)
    assert all(ours[name][0].mode == 0o755 for name in files if "/bin/" in name)

    record = f"{site}/rich_pkg-1.0.dist-info/RECORD"
    theirs = {
        path.replace("include/site/", "include/"): row
        for path, row in record_of(installed[record].read_bytes()).items()
    }
    mine = record_of(files[record])
    assert mine.keys() == {path for path in theirs if not path.endswith(("REQUESTED", "direct_url.json"))}
    for path, row in mine.items():
        if not path.endswith("INSTALLER") and "bin/" not in path:
            assert row == theirs[path]


def test_record_names_every_file_with_its_hash(tmp_path: Path) -> None:
    files = {
        name: content for name, (info, content) in entries(wheel_layer(rich_wheel(tmp_path))).items() if info.isfile()
    }
    rows = record_of(files[f"{SITE}/rich_pkg-1.0.dist-info/RECORD"])
    assert {os.path.normpath(f"{SITE}/{path}") for path in rows} == files.keys()
    for path, (hashed, size) in rows.items():
        content = files[os.path.normpath(f"{SITE}/{path}")]
        if not path.endswith("RECORD"):
            assert (hashed, size) == (record_hash(content), str(len(content)))


def test_pip_lists_and_shows_it(tmp_path: Path) -> None:
    other = make_wheel(tmp_path, "other", "2.5", requires=("rich-pkg>=1",))
    root = tmp_path / "root"
    unpack(wheel_layer(rich_wheel(tmp_path), other, scheme=RUNNING, byte_code=True), root)
    site = root / RUNNING.site_packages
    listed = json.loads(pip("list", "--path", str(site), "--format", "json"))
    assert {item["name"].lower(): item["version"] for item in listed} == {"rich-pkg": "1.0", "other": "2.5"}
    environment = {**os.environ, "PYTHONPATH": str(site)}
    shown = subprocess.run(
        [sys.executable, "-m", "pip", "show", "-f", "rich-pkg"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "../../../bin/rich-script" in shown
    assert (
        "Installer: registry-pipelines"
        in subprocess.run(
            [sys.executable, "-m", "pip", "show", "-v", "rich-pkg"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )


def test_scripts_start(tmp_path: Path) -> None:
    root = tmp_path / "root"
    scheme = Scheme.of(RUNNING_PYTHON, interpreter=sys.executable)
    unpack(wheel_layer(rich_wheel(tmp_path), scheme=scheme, byte_code=True), root)
    environment = {**os.environ, "PYTHONPATH": str(root / scheme.site_packages)}
    for name, expected in (("rich", "rich\n"), ("rich-gui", "rich\n"), ("rich-script", "script\n"), ("rich-shell", "")):
        script = root / scheme.scripts / name
        assert subprocess.run([script], env=environment, capture_output=True, text=True, check=True).stdout == expected


def test_byte_code_is_used_and_never_checked_against_the_source(tmp_path: Path) -> None:
    unpack(wheel_layer(rich_wheel(tmp_path), scheme=RUNNING, byte_code=True), tmp_path)
    site = tmp_path / RUNNING.site_packages
    pyc = site / "rich_pkg" / "__pycache__" / f"__init__.{sys.implementation.cache_tag}.pyc"
    assert pyc.read_bytes()[:8] == importlib.util.MAGIC_NUMBER + b"\x01\0\0\0"
    (site / "rich_pkg" / "__init__.py").write_text("def main():\n    print('changed')\n")
    out = subprocess.run(
        [sys.executable, "-c", "import rich_pkg; rich_pkg.main(); print(rich_pkg.main.__code__.co_filename)"],
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert out[0] == "rich"
    assert not (site / "rich_pkg" / "__pycache__" / f"broken.{sys.implementation.cache_tag}.pyc").exists()


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    first = wheel_layer(rich_wheel(tmp_path / "a"), byte_code=True)
    assert wheel_layer(rich_wheel(tmp_path / "b"), byte_code=True) == first


@settings(deadline=None, max_examples=40)
@given(
    st.dictionaries(
        st.lists(st.text("abcdefg_é", min_size=1, max_size=60), min_size=1, max_size=5).map(
            lambda parts: "x/" + "/".join([*parts, "f"])
        ),
        st.one_of(st.binary(max_size=2000), st.integers(1, 60).map(lambda n: b"line of text\n" * n * n)),
        max_size=8,
    ),
    st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
    st.integers(0, 9),
)
def test_any_zip_gives_the_same_files(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], compression: int, level: int
) -> None:
    path = make_wheel(tmp_path_factory.mktemp("any"), "any", files=files, compression=compression, level=level)
    there = entries(wheel_layer(path))
    for name, content in files.items():
        assert there[f"{SITE}/{name}"][1] == content


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[console_scripts]\nx = os;system\n", "module:attribute"),
        ("[console_scripts]\n../x = a:b\n", "not allowed"),
        ("[console_scripts]\n = a:b\n", "not allowed"),
        ("[console_scripts]\nx = a\n", "module:attribute"),
        ("[console_scripts]\nx\n", "module:attribute"),
        ("[console_scripts]\nx = a:b:c\n", "module:attribute"),
        ("[gui_scripts]\nx = a:b [extra\n", "module:attribute"),
    ],
)
def test_bad_entry_points_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(WheelInvalid, match=message):
        wheel_layer(make_wheel(tmp_path, "pkg", entry_points=text))


def test_an_unknown_data_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WheelInvalid, match="no known installation folder"):
        wheel_layer(make_wheel(tmp_path, "pkg", files={"pkg-1.0.data/etc/passwd": b""}))


def test_a_file_in_the_place_of_a_folder_after_spreading_is_refused(tmp_path: Path) -> None:
    files = {"pkg": b"1", "pkg-1.0.data/purelib/pkg/more.py": b"2"}
    with pytest.raises(WheelInvalid, match="both a file and a folder"):
        wheel_layer(make_wheel(tmp_path, "pkg", files=files))
