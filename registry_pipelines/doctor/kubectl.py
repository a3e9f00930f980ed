"""Ask a cluster by kubectl, where that is installed: a pod with its events and its node."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence

from registry_pipelines.doctor.pods import Cluster, read_objects
from registry_pipelines.errors import InputError, LocalError, ToolMissing

ANSWER_S = 30.0
"""For each question; an API server that does not answer by then will not."""


def read_pod(name: str, *, namespace: str = "") -> Cluster:
    """A pod by name (``pod``, or ``namespace/pod``), its events, and its node where we may see nodes. Raises
    ToolMissing, InputError (no such pod), LocalError (kubectl fails)."""
    before, slash, after = name.partition("/")
    namespace, name = (before, after) if slash else (namespace, before)
    inside = ["--namespace", namespace] if namespace else []
    pod = _ask(["get", "pod", name, *inside], about=f"pod {name}")
    events = _or_none(["get", "events", *inside, "--field-selector", f"involvedObject.name={name}"])
    names = sorted({str((each.get("spec") or {}).get("nodeName") or "") for each in pod.pods} - {""})
    nodes = [node for each in names if (node := _or_none(["get", "node", each]))]
    return Cluster(
        pod.pods, events.events if events else (), tuple(node for cluster in nodes for node in cluster.nodes)
    )


def read_node_named(name: str) -> Cluster:
    """A node by name. Raises as :func:`read_pod`."""
    return _ask(["get", "node", name], about=f"node {name}")


def _or_none(arguments: Sequence[str]) -> Cluster | None:
    try:
        return _ask(arguments, about="", empty=True)
    except (InputError, LocalError):
        return None


def _ask(arguments: Sequence[str], *, about: str, empty: bool = False) -> Cluster:
    program = shutil.which("kubectl")
    if program is None:
        raise ToolMissing(
            "kubectl is not installed",
            do="Save the pod where it is: kubectl get pod NAME -o json > pod.json; then give the file",
        )
    try:
        done = subprocess.run(
            [program, *arguments, "--output", "json"], capture_output=True, timeout=ANSWER_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise LocalError(
            "kubectl did not answer", where=about, do="Check the cluster that kubectl speaks to"
        ) from error
    if done.returncode:
        words = done.stderr.decode("utf-8", "replace").strip()[:300]
        kind = InputError if "NotFound" in words or "not found" in words else LocalError
        raise kind(f"kubectl says: {words}", where=about, do="Check the name, --namespace, and kubectl's context")
    return read_objects(done.stdout, where=about or "kubectl", empty=empty)
