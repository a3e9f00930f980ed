"""``doctor``: why an image does not come."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.output import console
from registry_pipelines.cli.references import whole
from registry_pipelines.errors import InputError, exit_code_of_many

if TYPE_CHECKING:
    from registry_pipelines.chain.doctor import Diagnosis
    from registry_pipelines.chain.places import Places
    from registry_pipelines.config import Config
    from registry_pipelines.doctor.nodes import Node
    from registry_pipelines.doctor.pods import Cluster

UNEXPLAINED = 1
"""Exit code where no rule knows a message."""


@click.command("doctor", short_help="Explain why an image does not come, or will not: by message, pod, node or look.")
@click.argument("subject", metavar="[REF|NODE|CONFIG]", required=False, shell_complete=IMAGES)
@click.option("--message", metavar="TEXT", help="What the kubelet, the runtime or a tool said; - reads it from stdin.")
@click.option("--pod", metavar="FILE|NAME", help="A pod: the file that `kubectl get pod -o json` gave, or its name.")
@click.option("--node", metavar="FILE|NAME", help="The node that is to pull REF: a file of kubectl's, or its name.")
@click.option("--namespace", "-n", default="", metavar="NAME", help="Of the pod; kubectl's own unless told.")
@click.option("--platform", default="", metavar="OS/ARCH", help="Platform that REF must have; the node's unless told.")
@click.option("--region", "regions", multiple=True, metavar="REGION", help="Look there, too, where REF is missing.")
@click.option("--look/--no-look", default=None, help="Ask the registry about a pod's images, too; unless told, not.")
@common
def doctor(
    options: Options,
    subject: str | None,
    message: str | None,
    pod: str | None,
    node: str | None,
    namespace: str,
    platform: str,
    regions: tuple[str, ...],
    look: bool | None,
) -> None:
    """Explain why an image does not come (ImagePullBackOff): cause, evidence, what to do, and the command for it.

    REF is a release of the configuration or any image, and is looked at as a node would pull it. NODE is `node/NAME` or
    a file of kubectl's. CONFIG is a configuration file, whose registries are all asked; without any of them that is the
    usual one. --message and --pod start from what is in hand. The registry is asked with the credentials of who runs
    this, not with the node's.

    Exit 0: nothing keeps it away, or the message is explained. Exit 1: no rule knows the message. Exit 4 to 7: what
    looking at it came to.
    """
    if sum(each is not None for each in (subject, message, pod)) > 1:
        raise InputError("one at a time: a subject, --message or --pod")
    if message is not None:
        found = [_by_message(message)]
    elif pod is not None:
        found = _by_pod(options, pod, namespace, look=bool(look))
    else:
        found = _by_subject(options, subject, node, platform, regions)
    _show(options, found)


def _by_message(text: str) -> Diagnosis:
    from registry_pipelines.chain.doctor import Diagnosis
    from registry_pipelines.doctor.clues import MAX_MESSAGE_CHARACTERS, read_message
    from registry_pipelines.doctor.diagnosis import diagnose

    words = sys.stdin.read(MAX_MESSAGE_CHARACTERS) if text == "-" else text
    if not words.strip():
        raise InputError("the message is empty", do="Give what `kubectl describe pod` says under Events")
    answers = tuple(diagnose(words))
    known = answers[0].cause != "unknown"
    subject = read_message(words).image or "message"
    return Diagnosis(subject=subject, answers=answers, exit_code=0 if known else UNEXPLAINED)


def _by_pod(options: Options, pod: str, namespace: str, *, look: bool) -> list[Diagnosis]:
    from registry_pipelines.chain.doctor import examine_pods
    from registry_pipelines.chain.places import Places

    cluster = _cluster(pod, namespace)
    if not cluster.pods:
        raise InputError("there is no pod in it", where=pod, do="Save it with `kubectl get pod NAME -o json`")
    config = options.config_if_any()
    return examine_pods(config, Places(config), cluster, look=look)


def _cluster(text: str, namespace: str) -> Cluster:
    from registry_pipelines.doctor.kubectl import read_pod
    from registry_pipelines.doctor.pods import read_file

    path = Path(text)
    return read_file(path) if path.is_file() else read_pod(text.removeprefix("pod/"), namespace=namespace)


def _node(text: str | None) -> Node | None:
    from registry_pipelines.doctor.kubectl import read_node_named
    from registry_pipelines.doctor.pods import read_file

    if text is None:
        return None
    path = Path(text)
    cluster = read_file(path) if path.is_file() else read_node_named(text.removeprefix("node/"))
    if not cluster.nodes:
        raise InputError("there is no node in it", where=text, do="Save it with `kubectl get node NAME -o json`")
    return cluster.nodes[0]


def _by_subject(
    options: Options, subject: str | None, node: str | None, platform: str, regions: tuple[str, ...]
) -> list[Diagnosis]:
    from registry_pipelines.chain.doctor import examine_configuration, examine_image, examine_node, examine_pods

    if subject is None or subject.endswith((".yaml", ".yml")):
        config = options.config() if subject is None else _config(Path(subject))
        return examine_configuration(config)
    if subject.startswith("node/"):
        return [examine_node(found)] if (found := _node(subject)) else []
    if subject.endswith(".json") and not Path(subject).is_file():
        raise InputError(
            "there is no such file", where=subject, do="Save it with `kubectl get pods,events,nodes -o json`"
        )
    if Path(subject).is_file():
        cluster = _cluster(subject, "")
        with _places(options, []) as (config_if_any, places):
            pods = examine_pods(config_if_any, places, cluster, look=False)
        return [*pods, *map(examine_node, cluster.nodes)]
    text = whole(options.config_if_any(), subject)
    with _places(options, [text]) as (config_if_any, places):
        return [examine_image(config_if_any, places, text, node=_node(node), platform=platform, regions=regions)]


def _config(path: Path) -> Config:
    from registry_pipelines.config import load

    return load(path)


@contextmanager
def _places(options: Options, texts: list[str]) -> Iterator[tuple[Config | None, Places]]:
    """The configuration, if any, and its registries, those that are embedded listening."""
    with options.places(texts) as places:
        yield options.config_if_any(), places


def _show(options: Options, found: list[Diagnosis]) -> None:
    if options.as_json:
        print_json({"diagnoses": [each.plain() for each in found]})
    else:
        for each in found:
            _print(each)
        if not found:
            console().print("no image is kept from being pulled", markup=False)
    if code := exit_code_of_many(each.exit_code for each in found if each.exit_code):
        sys.exit(code)


def _print(diagnosis: Diagnosis) -> None:
    out = console()
    out.print(diagnosis.subject, markup=False, soft_wrap=True, style="bold")
    for step in diagnosis.steps:
        out.print(f"  {'ok    ' if step.ok else 'failed'}  {step.asked}: {step.answered}", markup=False, soft_wrap=True)
    for answer in diagnosis.answers:
        likely = "" if answer.sure else " (likely)"
        heading = f"  {'note' if answer.note else 'cause'}: {answer.cause}{likely}"
        out.print(heading, markup=False, soft_wrap=True, style="yellow" if answer.note else "red")
        out.print(f"    {answer.what}", markup=False, soft_wrap=True)
        for each in answer.evidence:
            out.print(f"    seen: {one_line(each)}", markup=False, soft_wrap=True)
        if answer.do:
            out.print(f"    do:   {answer.do}", markup=False, soft_wrap=True)
        if answer.command:
            out.print(f"    run:  {answer.command}", markup=False, soft_wrap=True)
    if all(each.note for each in diagnosis.answers) and not diagnosis.exit_code:
        out.print("  nothing keeps it from being pulled with these credentials", markup=False, soft_wrap=True)


def one_line(text: str) -> str:
    """Somebody's words without line ends."""
    return " ".join(text.split())


COMMANDS = [doctor]
