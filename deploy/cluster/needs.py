"""What the machines of ``make cluster`` need of this one: programs, a user, ports."""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import socket
from pathlib import Path

HOST = "127.0.0.1"
PORTS = range(28000, 32768)
"""Linux gives away what lies above by itself; ``tests.ports`` gives what lies below."""


class Missing(Exception):
    """Something that is needed is not there; the text says how to get it."""


def find_program(name: str, package: str, *folders: str) -> str:
    """The path of a program. Raises Missing."""
    places = [os.environ.get("PATH", ""), *folders, "/usr/sbin", "/sbin"]
    if found := shutil.which(name, path=os.pathsep.join(places)):
        return found
    raise Missing(f"`{name}` is not installed. On Debian and Ubuntu: apt-get install {package}")


def postgres_programs() -> Path:
    """The folder of a Postgres server's programs; Debian keeps them off the PATH. Raises Missing."""
    known = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    return Path(find_program("initdb", "postgresql", *(str(path) for path in reversed(known)))).resolve().parent


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody has. Not what the kernel gives away by itself: a client's end of a connection
    may have it by the time a server of ours starts. Raises Missing."""
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind((HOST, port))
            found.append(port)
        if len(found) == count:
            return found
    raise Missing(f"no {count} ports of {PORTS[0]} to {PORTS[-1]} are free on {HOST}")


def postgres_user() -> str:
    """Whom Postgres runs as: it refuses root. Raises Missing."""
    if os.getuid():
        return ""
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise Missing("Postgres does not run as root, and there is no user `postgres`; start this as somebody else")
