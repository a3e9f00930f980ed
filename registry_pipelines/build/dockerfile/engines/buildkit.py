"""BuildKit, whoever starts it: the same progress, the same errors, the same exporters and caches."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
from collections.abc import Mapping, Sequence

from registry_pipelines.build.dockerfile.engines.failures import too_long
from registry_pipelines.build.dockerfile.engines.process import running
from registry_pipelines.build.dockerfile.engines.protocol import CACHE_LAYOUT, LAYOUT, Order
from registry_pipelines.build.dockerfile.engines.rawjson import Following
from registry_pipelines.errors import BuildFailed, DiskFull, RegistryPipelinesError, ToolMissing
from registry_pipelines.threads import run_child

QUESTION_S = 30.0
"""An engine that does not say within this that it is there, is not there."""

_NOT_THERE = re.compile(
    r"(?:failed to resolve source metadata for|pull access denied for|failed to load cache key: |"
    r"error getting credentials for) ?(?P<reference>[^\s,:]+(?::[^\s,:]+)*)"
)
_REGISTRY_WORDS = ("not found", "pull access denied", "dial tcp", "no such host", "connection refused", "unauthorized")


def ask(command: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """What a program prints when it is asked something small. Raises ToolMissing with its words."""
    try:
        done = run_child(command, timeout_s=QUESTION_S, env=env)
    except subprocess.TimeoutExpired:
        raise ToolMissing(f"{command[0]} does not answer within {QUESTION_S:.0f} s") from None
    except OSError as error:
        raise ToolMissing(f"{command[0]} cannot be started: {error.strerror}") from error
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip() or f"status {done.returncode}"
        raise ToolMissing(words.splitlines()[-1][:500], where=" ".join(command))
    return done.stdout.decode(errors="replace")


def fields(*pairs: str) -> str:
    """An option of several ``name=value``, as BuildKit's programs read it: a row of CSV (RFC 4180), so that a path may
    have commas and quotes."""
    row = io.StringIO()
    csv.writer(row, lineterminator="").writerow(pairs)
    return row.getvalue()


def exporter(order: Order) -> str:
    """The option that has BuildKit leave the image in ``order.folder``, with one time for all files."""
    return fields("type=oci", "tar=false", f"dest={(order.folder / LAYOUT).absolute()}", "rewrite-timestamp=true")


def cache_options(order: Order) -> tuple[str, str]:
    """Where BuildKit reads its cache, and how it writes it: as an image, which every registry takes; with the steps of
    all stages. With secrets it goes to a folder first. Empty without a cache."""
    if order.cache is None:
        return "", ""
    place = f"type=registry,ref={order.cache.reference}"
    if order.cache.plain_http:
        place += ",registry.insecure=true"
    folder = (order.folder / CACHE_LAYOUT).absolute()
    to = fields("type=local", f"dest={folder}") if order.secret_values else place
    return place, f"{to},mode=max,image-manifest=true,oci-mediatypes=true"


def environment(order: Order) -> dict[str, str]:
    """What the program is started with. The time goes by an option, and the log-ins by a folder of their own."""
    env = {**os.environ, "SOURCE_DATE_EPOCH": str(order.source_date), "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
    if order.docker_config is not None:
        env["PATH"] = f"{order.docker_config}:{env.get('PATH', '')}"
        env["DOCKER_CONFIG"] = str(order.docker_config)
    return env


def run(command: Sequence[str], order: Order) -> Following:
    """Run a build to its end, and follow it. It is ended at the time limit, and with this process.

    Raises BuildFailed, DiskFull, ToolMissing.
    """
    following = Following(order)
    with running(command, order, environment(order), stderr=subprocess.PIPE) as process:
        try:
            following.read(process.stderr or ())
            status = process.wait()
        finally:
            following.end()
    if status and not order.seconds_left():
        step = following.running()
        raise too_long(order, step.name if step else "", 0, step.last_lines if step else ())
    if status:
        raise failure(order, following, status)
    return following


def failure(order: Order, following: Following, status: int) -> RegistryPipelinesError:
    """The error of a build that ended with a status other than 0."""
    failed, words = following.failed(), following.text
    told = f"{failed.error if failed else ''}\n{words}"
    where = str(order.spec.path) + (f":{following.line}" if following.line else "")
    if "no space left on device" in told:
        if str(order.folder) in told:
            return DiskFull("no space is left for what the engine makes", where=str(order.folder), do="Free some there")
        return DiskFull(
            "the engine's disk is full", where=failed.name if failed else where, do="Free some: docker buildx prune"
        )
    if (missing := _NOT_THERE.search(told)) and any(word in told for word in _REGISTRY_WORDS):
        return BuildFailed(
            f"the image {missing['reference']} cannot be had: {_last(failed.error if failed else words)}",
            step=failed.name if failed else "",
            line=following.line,
            where=where,
            do="Look whether its registry has it, whether the name is right, and who may pull it",
        )
    if failed:
        return BuildFailed(
            f"step {failed.name} failed: {_last(failed.error)}",
            step=failed.name,
            line=following.line,
            last_lines=failed.last_lines,
            where=where,
        )
    return BuildFailed(_last(words) or f"the engine ended with status {status}", line=following.line, where=where)


def _last(words: str) -> str:
    lines = [text for text in words.splitlines() if text.strip()]
    named = [text for text in lines if text.lower().startswith("error: ")]
    return (named or lines)[-1].removeprefix("ERROR: ").removeprefix("error: ")[:1000] if lines else ""
