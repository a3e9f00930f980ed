"""pip's process: with the environment markers that the image will see, telling what indexes say of projects.

Markers (``; python_version < "3.11"``): with ``--python-version`` and ``--platform`` pip chooses wheels for another
Python, and still judges markers by the one that runs it: gradio for 3.13 comes without ``audioop-lts``, anyio for 3.9
without ``exceptiongroup``. So pip is started with the values of the target in place of its own. Source: PyPA
"Dependency specifiers", "Environment Markers".

Projects: an index may call one archived, deprecated or quarantined (PEP 792, in the page that pip reads anyway), and
pip does not say so. The page is looked at as it passes, which costs no request. That reaches into pip: where another
pip has no such place, it is said that nothing could be read.
"""

from __future__ import annotations

import json
import platform as here
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote

from packaging.utils import canonicalize_name

from registry_pipelines.build.target import RUNNING_PYTHON, WheelTarget
from registry_pipelines.threads import repeated

LOOK_S = 0.5
"""Between two looks at what pip has fetched: often enough for a person."""

NOTHING_READ = ""
"""In place of a project's name: nothing could be read."""

_LAUNCHER = """\
import json, re, runpy, sys
values, statuses = json.loads(sys.argv.pop(1)), sys.argv.pop(1)
if values:
    from pip._vendor.packaging import markers
    own = markers.default_environment
    markers.default_environment = lambda: {**own(), **values}

def note_status(page):
    if "json" in page.content_type:
        stated = json.loads(page.content).get("project-status") or {}
        status, reason = stated.get("status"), stated.get("reason")
    else:
        text = page.content.decode(page.encoding or "utf-8", "replace")[:65536]
        said = dict(re.findall(r'<meta\\s+name="pypi:project-status(-reason)?"\\s+content="([^"]*)"', text))
        status, reason = said.get(""), said.get("-reason")
    if status and status != "active":
        with open(statuses, "a") as file:
            name = page.url.split("?")[0].rstrip("/").rpartition("/")[2]
            file.write(json.dumps([name, status, reason or ""]) + "\\n")

try:
    from pip._internal.index import collector
    parse_links = collector.parse_links
except (ImportError, AttributeError):
    parse_links = None

def links(page):
    try:
        note_status(page)
    except Exception:
        pass  # what is wrong with a page, pip says
    return parse_links(page)

if statuses and parse_links:
    collector.parse_links = links
elif statuses:
    with open(statuses, "a") as file:
        file.write(json.dumps(["", "", ""]) + "\\n")
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""


class Fetched:
    """Tells of the bytes of wheels that pip brings into its temporary folder, as they come. tell: gets so many more."""

    def __init__(self, folder: Path, tell: Callable[[int], object]) -> None:
        self.folder = folder
        self._tell, self._known = tell, dict[str, int]()

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look twice a second until the block ends."""
        self.folder.mkdir(exist_ok=True)
        with repeated(self._look, LOOK_S, "pip"):
            yield

    def more(self, count: int) -> None:
        """So many more bytes came, which pip did not bring."""
        self._tell(count)

    def is_whole(self, filename: str, size: int) -> None:
        """A wheel is there, whatever was seen of it."""
        self._grown(filename, size)

    def _look(self) -> None:
        with suppress(FileNotFoundError):  # pip removes folders; the next look goes on
            for path in self.folder.rglob("*.whl"):
                with suppress(OSError):  # pip moves them away
                    self._grown(path.name, path.stat().st_size)

    def _grown(self, filename: str, size: int) -> None:
        before = self._known.get(filename, 0)
        if size > before:
            self._known[filename] = size
            self._tell(size - before)


def marker_values(target: WheelTarget) -> dict[str, str]:
    """The markers that differ by platform and Python; empty where this machine's own are right.

    The patch version is the base's where known, else that of the running Python when they agree in the minor, else
    0, as pip takes it for ``Requires-Python``. ``platform_release`` and ``platform_version`` speak of the kernel, which
    no image has: they stay those of this machine.
    """
    if target.running:
        return {}
    python = target.python.rstrip("t")
    full = target.full_version if target.full_version.count(".") == 2 else ""
    full = full or (here.python_version() if python == RUNNING_PYTHON else f"{python}.0")
    return {
        "implementation_name": "cpython",
        "implementation_version": full,
        "os_name": "posix",
        "platform_machine": target.machine,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": full,
        "python_version": python,
        "sys_platform": "linux",
    }


def pip_command(arguments: Sequence[str], values: Mapping[str, str], statuses: Path | None = None) -> list[str]:
    """The command that runs pip with these marker values. statuses: a file for what indexes say of projects,
    see :func:`read_statuses`; with neither, pip is as it is."""
    if not values and statuses is None:
        return [sys.executable, "-m", "pip", *arguments]
    return [sys.executable, "-c", _LAUNCHER, json.dumps(values), str(statuses or ""), *arguments]


def read_statuses(path: Path) -> dict[str, tuple[str, str]]:
    """By normalised project name, the status that an index gives it, and the reason, which may be empty."""
    if not path.is_file():
        return {}
    lines = (json.loads(line) for line in path.read_text().splitlines())
    return {str(canonicalize_name(unquote(name))): (str(status), str(reason)) for name, status, reason in lines}
