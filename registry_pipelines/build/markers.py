"""Environment markers (``; python_version < "3.11"``) as the image will see them.

With ``--python-version`` and ``--platform`` pip chooses wheels for another Python, and still judges markers by the one
that runs it: gradio for 3.13 comes without ``audioop-lts``, anyio for 3.9 without ``exceptiongroup``. So pip is started
with the values of the target in place of its own. Source: PyPA "Dependency specifiers", "Environment Markers".
"""

from __future__ import annotations

import json
import platform as here
import sys
from collections.abc import Mapping, Sequence

from registry_pipelines.build.target import RUNNING_PYTHON, Target

_LAUNCHER = """\
import json, runpy, sys
values = json.loads(sys.argv.pop(1))
from pip._vendor.packaging import markers
own = markers.default_environment
markers.default_environment = lambda: {**own(), **values}
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""


def marker_values(target: Target) -> dict[str, str]:
    """The markers that differ by platform and Python; empty where this machine's own are right.

    The patch version is the base's where it is told, else that of the running Python when they agree in the minor, else
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


def pip_command(arguments: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """The command that runs pip with these marker values; with none, pip as it is."""
    if not values:
        return [sys.executable, "-m", "pip", *arguments]
    return [sys.executable, "-c", _LAUNCHER, json.dumps(values), *arguments]
