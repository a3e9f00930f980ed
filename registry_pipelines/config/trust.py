"""Checks of who vouches for images: attestors, policies that name them, keys that would count as two of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations

from registry_pipelines.config.model import Config
from registry_pipelines.evidence.attestors import CERTIFIED, WEIGHTS, attestable
from registry_pipelines.promote.attestors import asked_together, names_in, read_expression
from registry_pipelines.settings import unknown

Finding = tuple[str, str]
"""The path in the file, and what is said about it."""


def trust_problems(config: Config) -> Iterable[Finding]:
    """What is wrong with attestors and with what policies ask of them."""
    for name, attestor in config.trust.attestors.items():
        if name in ("and", "or"):
            yield f"trust.attestors.{name}", "is no name: a policy writes `and` and `or` between attestors"
        if not (attestor.keys or attestor.keyless or attestor.certificates):
            yield f"trust.attestors.{name}", "names no `keys`, `keyless` or `certificates`, so nobody would count as it"
        if attestor.certificates and not set(attestor.attests) <= set(CERTIFIED):
            what = "sign images and weights alone: `attests` is `signature`, `weights` or both then"
            yield f"trust.attestors.{name}.certificates", what
        for what in attestor.attests:
            if not attestable(what):
                yield f"trust.attestors.{name}.attests", f"{what} is said by our own stages, in their roles (`signing`)"
    for name, policy in config.policies.items():
        path = f"policies.{name}.attestors"
        try:
            named = names_in(read_expression(policy.attestors)) if policy.attestors else ()
        except ValueError as error:
            yield path, f"cannot be read: {error}"
            continue
        for wanted in named:
            if wanted not in config.trust.attestors:
                yield path, unknown(wanted, config.trust.attestors, "attestor")
            elif WEIGHTS in config.trust.attestors[wanted].attests and not policy.weights.signed:
                yield (
                    path,
                    f"{wanted} signs weights, and the policy asks nothing of them: write `weights: {{signed: true}}`",
                )
    for path, one, other, what in asked_for_together(config):
        mine, theirs = config.trust.attestors[one], config.trust.attestors[other]
        shared = [key.name for key in mine.keys if key in theirs.keys]
        shared += [rule.name for rule in mine.keyless if rule in theirs.keyless]
        if shared:
            yield path, counts_as_both(one, other, what, ", ".join(shared))


def asked_for_together(config: Config) -> Iterator[tuple[str, str, str, str]]:
    """Each two attestors that a policy or a channel wants of one release, and that attest the same thing: the path in
    the file, both names, and what it is."""
    attestors = config.trust.attestors
    for path, pairs, about in _pairs(config):
        for one, other in pairs:
            if one != other and one in attestors and other in attestors:
                both = [each for each in attestors[one].attests if each in attestors[other].attests]
                yield from ((path, one, other, what) for what in both if about in ("", what))


def counts_as_both(one: str, other: str, what: str, key: str) -> str:
    """What is said of a key that two attestors share which are asked for together."""
    return (
        f"{one} and {other} are asked for together, and {key} counts as both for {what}: at the gate one key counts "
        "once, so give each keys of its own"
    )


def _pairs(config: Config) -> Iterator[tuple[str, Iterable[tuple[str, str]], str]]:
    """The path in the file, attestors that are asked for together there, and for what; empty for all they attest."""
    for name, policy in config.policies.items():
        if policy.attestors:
            try:
                expression = read_expression(policy.attestors)
            except ValueError:  # said already
                continue
            yield f"policies.{name}.attestors", sorted(asked_together(expression)), ""
    for name, image in config.images.items():
        for channel in image.order:
            yield f"images.{name}.channels", combinations(channel.approvals, 2), "approval"


__all__ = ["asked_for_together", "counts_as_both", "trust_problems"]
