"""The classic engine of Docker through its API, for Dockerfiles that use nothing it drops or ignores (``needs``).

Source: Docker Engine API 1.41, ``POST /build`` and ``GET /images/ID/get``. The image stays in the daemon without a
name: it is the cache of the next build.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registry_pipelines.build.dockerfile.context import Context, measure_context
from registry_pipelines.build.dockerfile.engines.failures import step_failed, too_long
from registry_pipelines.build.dockerfile.engines.protocol import LAST_LINES, LAYOUT, Built, Found, Order, Step, hidden
from registry_pipelines.build.dockerfile.engines.saved import save_as_layout
from registry_pipelines.build.dockerfile.engines.sent_context import context_tar, dockerfile_in
from registry_pipelines.build.dockerfile.instructions import Dockerfile
from registry_pipelines.build.dockerfile.parsing import parse_dockerfile, read_dockerfile
from registry_pipelines.errors import BuildFailed, RegistryPipelinesError, ToolMissing
from registry_pipelines.oci.platforms import Platform

QUESTION_S = 30
DEFAULT_HOST = "unix:///var/run/docker.sock"

CONTEXT_TASK = "sending the context"

MAX_LINE = 1000
"""Characters of a line of output that an error shows."""

_STEP = re.compile(r"Step (\d+)/(\d+) : (.*)", re.DOTALL)
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_IMAGE = re.compile(r"sha256:[0-9a-f]{64}\Z")


class Docker:
    """See ``protocol.Engine``."""

    name = "docker"

    def find(self) -> Found:
        """See Engine."""
        with connected(None) as client:
            told = client.version()
        here = Platform.parse(f"{told.get('Os', 'linux')}/{told.get('Arch', 'amd64')}")
        return Found(
            version=f"Docker {told.get('Version', '?')}, classic engine", buildkit=False, platforms=(here.normal,)
        )

    def build(self, order: Order) -> Built:
        """See Engine."""
        text = read_dockerfile(order.spec.path)
        dockerfile = parse_dockerfile(text, args=order.spec.args, where=str(order.spec.path))
        context = measure_context(order.spec.context, order.spec.path)
        with connected(order) as client:
            version = f"Docker {client.version().get('Version', '?')}, classic engine"
            following = _Following(order, dockerfile)
            image = _run(client, order, context, following)
            save_image(client, image, order)
        return Built(engine=version, steps=tuple(following.steps), warnings=tuple(following.warnings))


@contextlib.contextmanager
def connected(order: Order | None) -> Iterator[Any]:
    """The daemon that the environment names. Raises ToolMissing."""
    try:
        import docker
        import requests
    except ImportError as error:
        raise ToolMissing(
            "the package docker is not installed", do="Install it: pip install 'registry-pipelines[docker]'"
        ) from error
    limit = QUESTION_S if order is None else max(1.0, order.seconds_left())
    host = os.environ.get("DOCKER_HOST") or DEFAULT_HOST
    if host.startswith("unix://") and not Path(host.removeprefix("unix://")).exists():
        raise ToolMissing("no Docker daemon answers: its socket is not there", do="Start it, or set DOCKER_HOST")
    try:
        client = docker.from_env(timeout=limit).api
        client.ping()
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise ToolMissing(
            f"no Docker daemon answers: {type(error).__name__}", do="Start it, or set DOCKER_HOST"
        ) from error
    answers: list[Any] = []
    client.hooks["response"].append(lambda answer, *_, **__: answers.append(answer))
    try:
        if order is not None and order.docker_config is not None:
            client.reload_config(dockercfg_path=str(order.docker_config / "config.json"))
        yield client
    finally:
        # The client leaves the connection of a stream open that was not read to its end.
        for answer in answers:
            answer.close()
        client.close()


def save_image(client: Any, image: str, order: Order) -> None:
    """Take an image out of the daemon, to where engines leave it. Raises BuildFailed (the daemon goes away, the time is
    over), DiskFull, ManifestInvalid, LayerInvalid."""
    import docker
    import requests
    from urllib3.exceptions import HTTPError

    try:
        chunks = _until_deadline(client.get_image(image), order, lambda: too_long(order, "", 0, ()))
        save_as_layout(chunks, order.folder / LAYOUT, order.folder, order.source_date)
    except (requests.RequestException, HTTPError, docker.errors.DockerException) as error:
        if not order.seconds_left():
            raise too_long(order, "", 0, ()) from error
        said = f"the daemon went away while the image was read from it: {type(error).__name__}"
        raise BuildFailed(said, where=str(order.spec.path), do="See its log, and build again") from error


@dataclass
class _Following:
    """What the daemon tells while it builds."""

    order: Order
    dockerfile: Dockerfile
    steps: list[Step] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))
    image: str = ""
    name: str = ""
    number: int = 0
    begun: float = 0.0
    cached: bool = False

    def event(self, event: Mapping[str, Any]) -> None:
        """One of the stream. Raises BuildFailed, DiskFull."""
        if isinstance(aux := event.get("aux"), dict) and _IMAGE.match(str(aux.get("ID", ""))):
            self.image = str(aux["ID"])
        if isinstance(text := event.get("stream"), str):
            self._text(text)
        if "errorDetail" in event or "error" in event:
            detail = event.get("errorDetail")
            message = detail.get("message") if isinstance(detail, dict) else event.get("error")
            raise self.failed(str(message))

    def _text(self, text: str) -> None:
        if match := _STEP.match(text):
            self.end_step()
            self.number = int(match[1])
            self.name = hidden(f"[{match[1]}/{match[2]}] {match[3].strip()}", self.order.secret_values)[:MAX_LINE]
            self.begun, self.cached = time.monotonic(), False
            self.last_lines.clear()
            self.order.progress.begin(self.name)
            return
        for line in _COLOURS.sub("", text).splitlines():
            if line.strip() == "---> Using cache":
                self.cached = True
            elif line.startswith("[Warning] "):
                self.warnings.append(hidden(line.removeprefix("[Warning] "), self.order.secret_values)[:MAX_LINE])
            elif line.strip() and not line.startswith((" --->", "Removing intermediate container")):
                self.last_lines.append(hidden(line, self.order.secret_values)[:MAX_LINE])

    def end_step(self) -> None:
        """The one that ran, if any, is over."""
        if self.name:
            self.steps.append(Step(name=self.name, seconds=time.monotonic() - self.begun, cached=self.cached))
            self.order.progress.end(self.name, note="cached" if self.cached else "")
            self.name = ""

    def line(self) -> int:
        """Of the Dockerfile, for the step that runs; 0 where it is none of the file's (labels are the last one)."""
        instructions = list(self.dockerfile.all_instructions())
        return instructions[self.number - 1].line if 0 < self.number <= len(instructions) else 0

    def failed(self, message: str) -> RegistryPipelinesError:
        """The error of the step that runs."""
        message = hidden(message, self.order.secret_values)[:MAX_LINE]
        step, line = self.name, self.line()
        if self.name:
            self.order.progress.end(self.name, note="failed")
        return step_failed(self.order, message, step, line, self.last_lines, "docker system prune")

    def too_long(self) -> BuildFailed:
        """The error of a build that is over its time limit."""
        return too_long(self.order, self.name, self.line(), self.last_lines)


def _run(client: Any, order: Order, context: Context, following: _Following) -> str:
    """Send the context, follow the build; the image's id."""
    import docker
    import requests
    from urllib3.exceptions import HTTPError

    spec = order.spec
    name, added = dockerfile_in(context, spec.path, spec.path.read_bytes())
    args = dict(spec.args)
    if following.dockerfile.declares("SOURCE_DATE_EPOCH"):
        args.setdefault("SOURCE_DATE_EPOCH", str(order.source_date))
    order.progress.begin(CONTEXT_TASK, total_bytes=context.byte_count)
    tar = context_tar(context, added, lambda count: order.progress.advance(CONTEXT_TASK, count))
    try:
        with _cut_at_deadline(client, order):
            events = client.build(
                fileobj=_until_deadline(tar, order, following.too_long),
                custom_context=True,
                dockerfile=name,
                buildargs=args,
                labels=dict(order.labels),
                target=spec.target or None,
                network_mode=spec.network,
                rm=True,
                forcerm=True,
                decode=True,
                timeout=max(1.0, order.seconds_left()),
            )
            order.progress.end(CONTEXT_TASK)
            for event in events:
                following.event(event)
    except docker.errors.APIError as error:
        raise following.failed(str(error.explanation or error)) from error
    except (requests.RequestException, HTTPError, OSError, ValueError, docker.errors.DockerException) as error:
        # A cut connection ends in many ways.
        if not order.seconds_left():
            raise following.too_long() from error
        raise following.failed(f"the daemon went away: {type(error).__name__}") from error
    if not order.seconds_left() and not following.image:
        raise following.too_long()
    following.end_step()
    if not following.image:
        raise following.failed("the daemon ended the build without an image")
    return following.image


def _until_deadline(pieces: Iterator[bytes], order: Order, late: Callable[[], BuildFailed]) -> Iterator[bytes]:
    for piece in pieces:
        if not order.seconds_left():
            raise late()
        yield piece


@contextlib.contextmanager
def _cut_at_deadline(client: Any, order: Order) -> Iterator[None]:
    """Cut the connection of the build at its time limit, and when the block ends early: the daemon ends its step."""
    connections: list[int] = []

    def keep(response: Any, *_: object, **__: object) -> None:
        with contextlib.suppress(OSError, AttributeError, ValueError):
            connections.append(os.dup(response.raw.fileno()))

    def cut() -> None:
        for number in connections:
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(number)) as connection:
                connection.shutdown(socket.SHUT_RDWR)

    client.hooks["response"].append(keep)
    timer = threading.Timer(order.seconds_left(), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except BaseException:
        cut()
        raise
    finally:
        timer.cancel()
        client.hooks["response"].remove(keep)
        for number in connections:
            os.close(number)
