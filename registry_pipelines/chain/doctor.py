"""The doctor over a configuration: an image, a pod, a node or the whole configuration, looked at as a pull would.

What is asked is asked with the credentials of who runs this, never with a node's; the answers say whose role it is that
pulls. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from registry_pipelines.chain.places import Located, Places, address
from registry_pipelines.chain.reach import reach
from registry_pipelines.config import Config, EcrRegistry, RegistryPlace
from registry_pipelines.doctor.causes import explain
from registry_pipelines.doctor.diagnosis import diagnose_patient, far_away
from registry_pipelines.doctor.ecr_images import explain_missing
from registry_pipelines.doctor.endpoints import explain_endpoints
from registry_pipelines.doctor.hosts import Host, read_image
from registry_pipelines.doctor.looking import Looked, Step, is_missing, look_at
from registry_pipelines.doctor.model import Answer, Patient
from registry_pipelines.doctor.node_role import RIGHTS as ROLE_RIGHTS
from registry_pipelines.doctor.node_role import explain_role
from registry_pipelines.doctor.nodes import Node, node_answers
from registry_pipelines.doctor.pods import Cluster, failed_pulls
from registry_pipelines.doctor.refusals import cause_of
from registry_pipelines.doctor.unasked import unasked
from registry_pipelines.errors import (
    ContentError,
    DiskFull,
    Forbidden,
    NotFound,
    RegistryPipelinesError,
    Unavailable,
)
from registry_pipelines.registry.client.retries import NEVER
from registry_pipelines.registry.ecr.access import AwsAccess
from registry_pipelines.registry.ecr.calls import AwsCalls
from registry_pipelines.registry.protocol import Place


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """What was found about one image, node or registry. exit_code: 0 where nothing keeps it from being pulled."""

    subject: str
    answers: tuple[Answer, ...]
    steps: tuple[Step, ...] = ()
    exit_code: int = 0

    def plain(self) -> dict[str, object]:
        """For JSON."""
        return {
            "subject": self.subject,
            "answers": [each.row() for each in self.answers],
            "asked": [each.row() for each in self.steps],
        }


def examine_image(
    config: Config | None,
    places: Places,
    text: str,
    *,
    node: Node | None = None,
    platform: str = "",
    regions: Sequence[str] = (),
    patient: Patient | None = None,
) -> Diagnosis:
    """Look at an image as a node would pull it. text: ``<configured registry>/repository:tag`` or as Docker writes it.
    regions: of AWS to look in where it is missing, beside those that the configuration names. Raises InputError,
    ReferenceInvalid."""
    node = node or Node()
    located = places.locate(text)
    known = patient or Patient(node=node.name, node_region=node.region, node_cloud=node.cloud, instance=node.instance)
    known = msgspec.structs.replace(known, image=_full_name(config, located, text), platform=platform or known.platform)
    looked = look_at(located.place, located.selector, known, node)
    answers = list(looked.answers)
    if is_missing(looked.error):
        found = list(_elsewhere(config, places, located, known, regions))
        answers = [*found, *answers]  # where it is tells more than that it is not here
    if looked.answers and looked.answers[0].cause in _OF_THE_WAY:
        answers = [*_private_ways(config, known), *answers]
    if known.instance.startswith("i-"):
        answers = [*_of_the_node(config, known, located.place.repository), *answers]
    answers += filter(None, [far_away(known)])
    answers.sort(key=lambda each: each.note)  # what keeps it away first
    return Diagnosis(subject=text, answers=tuple(answers), steps=looked.steps, exit_code=_code(looked, answers))


def examine_pods(config: Config | None, places: Places, cluster: Cluster, *, look: bool) -> list[Diagnosis]:
    """Why the pods of a cluster, or of a saved file, do not get their images: by their messages, by their nodes, and,
    where ``look`` says so, by looking at each image itself."""
    found = []
    for patient in failed_pulls(cluster):
        node = cluster.node(patient.node)
        answers = [*diagnose_patient(patient), *node_answers(node)]
        steps: tuple[Step, ...] = ()
        if look and patient.image:
            try:
                looked = examine_image(config, places, patient.image, node=node, patient=patient)
            except RegistryPipelinesError as error:
                steps = (Step(asked=patient.image, answered=str(error), ok=False),)
            else:
                told = {each.cause for each in answers}
                answers += [each for each in looked.answers if each.cause not in told]
                steps = looked.steps
        found.append(Diagnosis(subject=patient.image or patient.node, answers=tuple(answers), steps=steps))
    return found


def examine_node(node: Node) -> Diagnosis:
    """What is wrong with a node itself."""
    answers = tuple(node_answers(node))
    told = [("platform", node.platform), ("runtime", node.runtime), ("kubelet", node.kubelet), ("region", node.region)]
    steps = tuple(Step(asked=name, answered=value, ok=True) for name, value in told if value)
    code = Unavailable.exit_code if answers else 0
    return Diagnosis(subject=node.name or "node", answers=answers, steps=steps, exit_code=code)


def examine_configuration(config: Config) -> list[Diagnosis]:
    """Ask every registry of the configuration, all at once (as ``config check --online``), and explain what fails."""
    found = []
    for each in reach(config):
        step = Step(asked=f"{each.registry} ({each.where}) as {each.login or 'nobody'}", answered=each.read, ok=each.ok)
        answers: tuple[Answer, ...] = ()
        if not each.ok:
            patient = Patient(image=_any_image(config.registries[each.registry]), message=each.read)
            cause = cause_of(each.error) if each.error is not None else "timeout"
            answers = (explain(cause, patient, evidence=(each.read,)),)
        found.append(Diagnosis(subject=each.registry, answers=answers, steps=(step,), exit_code=each.exit_code))
    return found


_OF_THE_WAY = ("timeout", "dns", "layer-store-timeout", "refused-connection")
"""Causes for which the private ways of a network are looked at."""


def _private_ways(config: Config | None, patient: Patient) -> list[Answer]:
    """What the networks of the image's region lack of a private way to ECR."""
    found = read_image(patient.image)
    if not found or found[0].kind != "ecr":
        return []
    host = found[0]
    try:
        return explain_endpoints(_calls(config, host), host)
    except RegistryPipelinesError as error:
        return [unasked(f"which private ways to ECR {host.region} has", "ec2:DescribeVpcEndpoints", error)]


def _of_the_node(config: Config | None, patient: Patient, repository: str) -> list[Answer]:
    """What the node's own role lacks."""
    found = read_image(patient.image)
    if not found or found[0].kind != "ecr":
        return []
    try:
        return explain_role(_calls(config, found[0]), found[0], repository, patient)
    except RegistryPipelinesError as error:
        return [unasked("whether the node's role may pull", ROLE_RIGHTS, error)]


def _calls(config: Config | None, host: Host) -> AwsCalls:
    """How AWS is asked about a registry of ECR: as the configuration says, else as the aws command would."""
    for each in _registries(config):
        if isinstance(each, EcrRegistry) and (each.account, each.region) == (host.account, host.region):
            return AwsCalls(each.access(), retries=NEVER)
    return AwsCalls(AwsAccess(host.region), retries=NEVER)


def _any_image(settings: RegistryPlace) -> str:
    """A name at a registry, so that answers know whose it is."""
    host = address(settings)
    return f"{host}/IMAGE".lower() if host else ""


def _full_name(config: Config | None, located: Located, text: str) -> str:
    """The image with its host, which answers need; a configured name is one of ours."""
    first, slash, rest = text.partition("/")
    if slash and config and first in config.registries and (host := address(config.registries[first])):
        return f"{host}/{rest}"
    return text


_CODES = {
    "permission": Forbidden.exit_code,
    "no-identity": Forbidden.exit_code,
    "platform-missing": NotFound.exit_code,
    "disk-full": DiskFull.exit_code,
}
"""Exit codes of causes that a look at an image that is there comes to; others are about its content."""


def _code(looked: Looked, answers: Sequence[Answer]) -> int:
    if looked.error is not None:
        return looked.error.exit_code
    found = [_CODES.get(each.cause, ContentError.exit_code) for each in answers if not each.note]
    return found[0] if found else 0


def _elsewhere(
    config: Config | None, places: Places, located: Located, patient: Patient, regions: Sequence[str]
) -> Iterator[Answer]:
    """Where else the image is: by ECR's API (archived, other regions), and at the configuration's other registries."""
    answers: list[Answer] = []
    found = read_image(patient.image)
    if found and found[0].kind == "ecr":
        host = found[0]
        mine = [each for each in _registries(config) if isinstance(each, EcrRegistry) and each.account == host.account]
        others = [*regions, *(each.region for each in mine)]
        answers = explain_missing(
            _calls(config, host), host, located.place.repository, located.selector, regions=others
        )
    yield from answers
    if all(each.note for each in answers):
        yield from _at_others(config, places, located, patient)


def _registries(config: Config | None) -> list[RegistryPlace]:
    return list(config.registries.values()) if config else []


def _at_others(config: Config | None, places: Places, located: Located, patient: Patient) -> Iterator[Answer]:
    """The same image at registries that the configuration brings it to, or takes it from."""
    for place in _siblings(config, places, located.place):
        try:
            digest = place.registry.resolve(place.repository, located.selector).digest
        except NotFound:
            continue
        except RegistryPipelinesError as error:
            yield unasked(f"whether {place} has it", "the right to pull there", error)
            continue
        yield Answer(
            cause="other-region",
            what=f"{located.selector} is not at {located.place} but at {place}",
            evidence=(f"HEAD at {place}: {digest}",),
            do="Pull it there, or bring it here",
            command=f"registry-pipelines copy {place}{'@' if located.digest else ':'}{located.selector} "
            f"{located.place}",
        )


def _siblings(config: Config | None, places: Places, here: Place) -> list[Place]:
    """Where the image that this repository belongs to lives, besides here."""
    for image in config.images.values() if config else ():
        of_image = [places.source(image), *(places.target(image, name) for name in image.targets)]
        if any(str(each) == str(here) for each in of_image):
            return [each for each in of_image if str(each) != str(here)]
    return []


__all__ = ["Diagnosis", "examine_configuration", "examine_image", "examine_node", "examine_pods"]
