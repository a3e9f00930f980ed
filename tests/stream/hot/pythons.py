"""An image with this machine's Python: a real start reads a part of it."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path

from registry_pipelines.oci import media_types
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import Place
from tests.stream.layers import pack
from tests.stream.lazy.starts import file, programs
from tests.stream.releases import Layer, push

_LARGE = ("_codecs_", "_curses", "_hashlib", "_sqlite3", "_ssl", "_test", "_tkinter", "_xx", "pyexpat", "readline")
"""Modules that need libraries of their own, or are large, and that no start here wants."""
_FOLDERS = ("", "collections", "ctypes", "email", "encodings", "importlib", "json", "lib-dynload", "re", "urllib")
START = "import json, decimal, email.message; print(json.dumps({'started': 1}), flush=True)"


@cache
def _layers() -> tuple[Layer, ...]:
    program = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    modules = [each for each in library.glob("lib-dynload/*.so") if not each.name.startswith(_LARGE)]
    needing = [str(each) for each in (program, *modules)]
    told = subprocess.run(["ldd", *needing], check=True, capture_output=True, text=True).stdout
    wanted = sorted(set(re.findall(r"(/\S+\.so[^\s:]*)\s", told)))
    made = [file(f"opt/py/bin/{library.name}", program.read_bytes(), 0o755), *programs()]
    here = {entry.name for entry, _ in made}
    made += [file(name.lstrip("/"), Path(name).read_bytes(), 0o755) for name in wanted if name.lstrip("/") not in here]
    for folder in _FOLDERS:
        for path in sorted((library / folder).glob("*.*") if folder != "lib-dynload" else modules):
            compiled = Path(importlib.util.cache_from_source(str(path)))
            made += [
                file(f"opt/py/lib/{each.relative_to(library.parent)}", each.read_bytes())
                for each in (path, compiled)
                if each.is_file()
            ]
    base = pack(made)
    above = pack([file("app/start.py", START.encode()), file("etc/passwd", b"me:x:7:8::/:\n")])
    return tuple(Layer(tar, tar, media_types.OCI_LAYER) for tar in (base, above))


def python_image(place: Place, *, tag: str = "py", user: str = "") -> Descriptor:
    """``/opt/py/bin/python3`` with what of the standard library a start may read, and an application above it."""
    name = Path(sysconfig.get_path("stdlib")).name
    config = {
        "Entrypoint": [f"/opt/py/bin/{name}"],
        "Cmd": ["/app/start.py"],
        "Env": ["PYTHONHOME=/opt/py", "PYTHONDONTWRITEBYTECODE=1"],
        "User": user,
    }
    return push(place, *_layers(), tag=tag, config=config)
