"""ECR's settings as a :class:`~registry_pipelines.infra.cloud.SettingsCloud`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from registry_pipelines.infra.cloud import Found
from registry_pipelines.infra.ecr import forms, kinds, signing
from registry_pipelines.infra.ecr.asking import Asking
from registry_pipelines.infra.ecr.changing import Changing
from registry_pipelines.infra.ecr.owed import Owed
from registry_pipelines.infra.ecr.reading import Reading
from registry_pipelines.infra.ecr.replicating import Backfills, Waiting, set_rules
from registry_pipelines.infra.plan import Change, Outcome
from registry_pipelines.infra.settings import Setting
from registry_pipelines.shared.documents import Documents


class EcrSettings:
    """One ECR registry. place: its name in the configuration. state: of what has to be remembered between a
    changed rule and its backfill. elsewhere: how other registries are asked, by ``account/region``."""

    order: Sequence[str] = kinds.ORDER
    needs: Mapping[str, str] = kinds.NEEDS

    def __init__(
        self,
        place: str,
        asking: Asking,
        *,
        state: Documents,
        waiting: Waiting | None = None,
        elsewhere: Mapping[str, Callable[[], Asking]] | None = None,
    ) -> None:
        self.place, self.where = place, f"{asking.account} in {asking.region}"
        self._asking = asking
        self._owed = Owed(state)
        self._reading = Reading(place, asking, owed=self._owed.read)
        self._changing = Changing(asking, arn=self.arn)
        self._backfills = Backfills(asking, self._owed, waiting or Waiting(), elsewhere or {})

    def arn(self, repository: str) -> str:
        """Of a repository."""
        region = self._asking.region
        return f"arn:{kinds.partition(region)}:ecr:{region}:{self._asking.account}:repository/{repository}"

    def everything(self) -> Found:
        """All that is there, also what no list tells of things that nobody declared: what an import takes. Keys are
        those that repositories are encrypted with. Raises RegistryError."""
        found = self._reading.read((), everything=True)
        keys = {each.found.get("kms_key") for each in found.settings if each.kind == kinds.REPOSITORY and each.found}
        asked = [Setting(kind=kinds.KEY, place=self.place, name=name, wanted={}) for name in sorted(filter(None, keys))]
        described = self._reading.read_keys(asked)
        return msgspec.structs.replace(found, settings=(*found.settings, *described))

    def read(self, declared: Sequence[Setting]) -> Found:
        """See SettingsCloud."""
        found = self._reading.read(declared)
        changed = {
            each.name
            for each in found.settings
            if each.kind == kinds.REPLICATION and each.wanted is not None and each.found != each.wanted
        }
        settings = tuple(_owed(each) if each.name in changed else each for each in found.settings)
        needs = [self.need(each.name) for each in declared if each.kind == kinds.REPLICATION and self._abroad(each)]
        return msgspec.structs.replace(found, settings=settings, notes=(*found.notes, *needs))

    def _abroad(self, setting: Setting) -> bool:
        return not setting.name.startswith(f"{self._asking.account}/")

    def need(self, destination: str) -> str:
        """What another account has to allow before anything arrives there."""
        account, _, region = destination.partition("/")
        resource = f"arn:{kinds.partition(region)}:ecr:{region}:{account}:repository/*"
        statement = forms.policy_text(forms.replication_statement([self._asking.account], resource))
        return f"account {account} must allow replication in its registry policy in {region}: {statement}"

    def apply(self, changes: Sequence[Change]) -> Iterator[Outcome]:
        """See SettingsCloud."""
        match changes[0].kind:
            case kinds.REPLICATION:
                return set_rules(self._asking, changes, self._owed)
            case kinds.SIGNING:
                return signing.set_rules(self._asking, changes)
            case kinds.BACKFILL:
                return self._backfills.apply(changes)
            case _:
                return self._changing.apply(changes)


def _owed(setting: Setting) -> Setting:
    """A backfill of a destination whose rule is about to change is owed again, however the last one ended."""
    if setting.kind != kinds.BACKFILL or setting.found is None or setting.found["status"] in kinds.UNDER_WAY:
        return setting
    return msgspec.structs.replace(setting, found={**setting.found, "status": "OWED"})


__all__ = ["EcrSettings"]
