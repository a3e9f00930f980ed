"""The interpreter base: a Linux root with the running Python, its standard library, the loader and shared libraries.

Two layers: ``system`` (loader, libraries, certificates, time zones, ``/etc``) and ``python``; both name the packages of
the distribution that their files come from. The interpreter moves to
``/usr/local``; CPython finds its library from where its program stands (``getpath``: the landmark
``lib/python3.X/os.py``), so it works from there, wherever it was installed here: system, pyenv, or below a venv.
Every shared library goes to the folder of the C library, which the loader searches without a cache.
"""

from __future__ import annotations

import fnmatch
import importlib.util
import os
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

from registry_pipelines.build.content import LayerEntry
from registry_pipelines.build.elf import Elf, Loader, is_elf, read_elf
from registry_pipelines.build.entries import FILE_MODE, FOLDER_MODE, PROGRAM_MODE
from registry_pipelines.build.install import Scheme
from registry_pipelines.build.system_files import data_entries, finder_entries, missing_data
from registry_pipelines.build.system_packages import machine_packages, package_entries
from registry_pipelines.errors import LocalError

PREFIX = "usr/local"
USER_ID = 65532
"""The user containers run as; the number that "nonroot" has in the well-known minimal images."""

EXTRA_LIBRARIES = (
    *("libstdc++.so.6", "libgcc_s.so.1", "libm.so.6", "libdl.so.2", "librt.so.1", "libpthread.so.0", "libutil.so.1"),
    *("libresolv.so.2", "libnsl.so.1", "libz.so.1", "libatomic.so.1", "libgomp.so.1"),
    *("libnss_files.so.2", "libnss_dns.so.2"),
)
"""Taken along when present: what manylinux wheels may expect of a system (PEP 600, without graphics and GLib), the two
OpenMP-era libraries that wheels often forget, and name resolution of older C libraries."""

LEFT_OUT_FOLDERS = (
    *("test", "tests", "idle_test", "__pycache__", "site-packages", "dist-packages", "config-*"),
    *("idlelib", "tkinter", "turtledemo", "ensurepip"),
)
LEFT_OUT_FILES = (
    *("*.pyc", "*.a", "EXTERNALLY-MANAGED", "sitecustomize.py", "usercustomize.py", "turtle.py"),
    *("_tkinter*.so", "_test*.so", "_ctypes_test*.so", "_xxtestfuzz*.so", "xxlimited*.so", "_xxinterpchannels*.so"),
)
"""Parts of the standard library that a container has no use for: tests, graphics, the bundled pip, build files."""

_CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
_MOZILLA = Path("/usr/share/ca-certificates/mozilla")
_ETC = {
    "etc/passwd": "root:x:0:0:root:/root:/sbin/nologin\n"
    f"nonroot:x:{USER_ID}:{USER_ID}:nonroot:/home/nonroot:/sbin/nologin\n",
    "etc/group": f"root:x:0:\nnonroot:x:{USER_ID}:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
}


def interpreter_scheme() -> Scheme:
    """Where wheels go: Debian's interpreters look into ``dist-packages``, all others into ``site-packages``."""
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    site = (_library() / "site.py").read_text(encoding="utf-8")
    folder = "dist-packages" if "dist-packages" in site else "site-packages"
    return Scheme.of(python, site_packages=f"/{PREFIX}/lib/python{python}/{folder}")


def interpreter_entries() -> tuple[list[LayerEntry], list[LayerEntry]]:
    """Entries of the ``system`` and of the ``python`` layer. Raises LocalError on anything but Linux with ELF."""
    if not sys.platform.startswith("linux"):
        raise LocalError("the interpreter base needs Linux", where=sys.platform, do="Name an image as base")
    program = Path(getattr(sys, "_base_executable", "") or sys.executable).resolve()
    elf = read_elf(program)
    python = _python_entries(program)
    modules = [
        entry.source for entry in python if entry.source and entry.source.suffix == ".so" and is_elf(entry.source)
    ]
    libraries = list(_library_entries(elf, [read_elf(path) for path in modules]))
    # A shared libpython belongs to the interpreter: a Python update must not move the system layer.
    python += [entry for entry in libraries if "/libpython" in entry.path]
    libraries = [entry for entry in libraries if "/libpython" not in entry.path]
    database = machine_packages()
    finder = finder_entries((entry for entry in libraries if ".so" in entry.path), Loader())
    system = [*libraries, *finder, *data_entries(database), *_etc_entries()]
    packages = package_entries([system, python], database)
    return _with_parents([*system, *packages[0]]), _with_parents([*python, *packages[1]])


def interpreter_warnings() -> list[str]:
    """For people: what the interpreter base lacks because this machine lacks it."""
    said = missing_data(machine_packages())
    if not _certificates():
        said.append(
            "no public certificate authorities were found here: TLS in the image trusts nobody (ca-certificates)"
        )
    return said


def interpreter_programs() -> list[str]:
    """Paths by which scripts in the image can name their interpreter: there is no shell, and no ``/usr/bin/env``."""
    return [f"/{PREFIX}/bin/{name}" for name in (_program_name(), "python3", "python")]


def _program_name() -> str:
    return f"python{sys.version_info[0]}.{sys.version_info[1]}"


def _library() -> Path:
    return Path(os.__file__).resolve().parent


def _python_entries(program: Path) -> list[LayerEntry]:
    name = _program_name()
    root = f"{PREFIX}/{sys.platlibdir}/{name}"
    entries = [
        LayerEntry(f"{PREFIX}/bin/{name}", PROGRAM_MODE, source=program),
        LayerEntry(f"{PREFIX}/bin/python3", link=name),
        LayerEntry(f"{PREFIX}/bin/python", link=name),
        LayerEntry(interpreter_scheme().site_packages, FOLDER_MODE, folder=True),
    ]
    entries += _tree(_library(), root)
    dynamic = next((Path(part) for part in sys.path if part.endswith("/lib-dynload")), None)
    if dynamic is not None and dynamic.resolve().parent != _library():
        entries += _tree(dynamic.resolve(), f"{root}/lib-dynload")
    return entries


def _tree(folder: Path, target: str) -> Iterator[LayerEntry]:
    for path in sorted(folder.iterdir()):
        place = f"{target}/{path.name}"
        if path.is_dir():
            if not _matches(path.name, LEFT_OUT_FOLDERS):
                yield from _tree(path, place)
        elif path.is_file() and not _matches(path.name, LEFT_OUT_FILES):
            yield LayerEntry(place, FILE_MODE, source=path.resolve())


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _library_entries(program: Elf, modules: list[Elf]) -> Iterator[LayerEntry]:
    if not program.interpreter:
        return
    loader = Path(program.interpreter)
    yield LayerEntry(program.interpreter.lstrip("/"), PROGRAM_MODE, source=loader.resolve())
    libraries = Loader().closure(program, modules, EXTRA_LIBRARIES)
    standard = next((path.parent.resolve() for name, path in libraries.items() if name.startswith("libc.")), None)
    if standard is None:
        raise LocalError(
            "the interpreter's C library was not found", where=str(program.path), do="Name an image as base"
        )
    for name, path in sorted(libraries.items()):
        if Path(name).name != loader.name:
            place = name if name.startswith("/") else f"{standard}/{name}"
            yield LayerEntry(place.lstrip("/"), FILE_MODE, source=path.resolve())


def _etc_entries() -> Iterator[LayerEntry]:
    yield LayerEntry("tmp", 0o1777, folder=True)
    yield LayerEntry("root", 0o700, folder=True)
    yield LayerEntry("home/nonroot", 0o700, folder=True, owner=USER_ID)
    for path, text in _ETC.items():
        yield LayerEntry(path, content=text.encode())
    certificates = _certificates()
    if certificates:
        yield LayerEntry(_CERTIFICATES, content=certificates)
        expected = (ssl.get_default_verify_paths().openssl_cafile or "").lstrip("/")
        if expected and expected != _CERTIFICATES:
            yield LayerEntry(expected, link=f"/{_CERTIFICATES}")


def _certificates() -> bytes:
    """The public authorities only: the machine's own bundle may hold a company's, which must not leak into images."""
    files = sorted(_MOZILLA.glob("*.crt")) if _MOZILLA.is_dir() else []
    if files:
        return b"".join(path.read_bytes().rstrip(b"\n") + b"\n" for path in files)
    for module in ("certifi", "pip._vendor.certifi"):
        try:
            spec = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            continue
        path = Path(spec.origin).parent / "cacert.pem" if spec and spec.origin else None
        if path and path.is_file():
            return path.read_bytes()
    return b""


def _with_parents(entries: list[LayerEntry]) -> list[LayerEntry]:
    known = {entry.path for entry in entries}
    added = []
    for entry in entries:
        parent = entry.path.rpartition("/")[0]
        while parent and parent not in known:
            known.add(parent)
            added.append(LayerEntry(parent, FOLDER_MODE, folder=True))
            parent = parent.rpartition("/")[0]
    return entries + added
