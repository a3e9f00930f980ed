"""Which way a release takes to a target: copied by ECR itself, or by our transfer; and why.

ECR replicates what is pushed to a private registry, under the same name, to other regions and accounts of the same
partition, where a rule of the registry says so (ECR user guide, "Private image replication"). It asks no gate: what
nobody promoted gets there, too, and stays without its channel tag until a promotion moves that at the source.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

Kind = Literal["native", "transfer"]

UNJUDGED = "ECR copies what is pushed before anybody judged it; what starts there must ask the gate (`admission`)"
"""What a native way is not to be taken without."""


class End(msgspec.Struct, frozen=True):
    """A registry at one end. kind: as in the configuration. account, region, partition: of ECR."""

    name: str
    kind: str
    account: str = ""
    region: str = ""
    partition: str = ""

    @property
    def destination(self) -> str:
        """As a rule of replication names it."""
        return f"{self.account}/{self.region}"


class Rule(msgspec.Struct, frozen=True):
    """What a registry replicates to one destination: beginnings of repositories' names, none for all."""

    destination: str
    prefixes: tuple[str, ...] = ()

    def covers(self, repository: str) -> bool:
        """Whether it takes a repository along."""
        return not self.prefixes or any(repository.startswith(each) for each in self.prefixes)


class Way(msgspec.Struct, frozen=True):
    """How a repository gets from one registry to another. why: in a sentence, for both kinds. notes: what is to be
    known about it."""

    kind: Kind
    why: str
    notes: tuple[str, ...] = ()

    @property
    def native(self) -> bool:
        """Whether ECR does it by itself."""
        return self.kind == "native"


def way(source: End, target: End, repository: str, there: str, rules: Sequence[Rule]) -> Way:
    """The way of one repository. there: its name at the target. rules: what the source replicates by itself, as it is
    declared. The first thing that is in the way of ECR's own replication is told."""
    for end in (source, target):
        if end.kind != "ecr":
            return Way("transfer", f"{end.name} is of kind {end.kind}; only ECR replicates, and only to ECR")
    if source.partition != target.partition:
        return Way("transfer", f"{target.region} is in partition {target.partition}, {source.region} is not")
    if source.destination == target.destination:
        return Way("transfer", "both are one registry, within which ECR replicates nothing")
    if repository != there:
        return Way("transfer", f"it is {there} there, and ECR keeps names")
    named = [each for each in rules if each.destination == target.destination]
    if not named:
        return Way("transfer", f"infra.{source.name}.replication names no {target.destination}")
    if not any(each.covers(repository) for each in named):
        prefixes = ", ".join(sorted({prefix for each in named for prefix in each.prefixes}))
        return Way("transfer", f"infra.{source.name}.replication takes {prefixes} to {target.destination}, not this")
    abroad = source.account != target.account
    need = f"account {target.account} must allow it in its registry policy (`infra plan {source.name}` shows it)"
    return Way("native", f"ECR replicates it to {target.destination}", (UNJUDGED, *([need] if abroad else [])))
