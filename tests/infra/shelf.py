"""The smallest cloud: things with fields on a shelf. What plans and their application do is shown on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from registry_pipelines.infra.cloud import Found
from registry_pipelines.infra.plan import Change, Outcome, done, failed
from registry_pipelines.infra.settings import Plain, Setting, with_found


class Shelf:
    """kinds: ``box``, and ``lid``, which needs the box of its name. broken: names whose changes fail. log: what was
    changed, in order."""

    place, where = "shelf", "the first room"
    order: Sequence[str] = ("box", "lid")
    needs: Mapping[str, str] = MappingProxyType({"lid": "box"})

    def __init__(self) -> None:
        self.things: dict[tuple[str, str], dict[str, Plain]] = {}
        self.broken: set[str] = set()
        self.hidden: set[str] = set()
        self.log: list[tuple[str, str, str]] = []

    def read(self, declared: Sequence[Setting]) -> Found:
        named = {(each.kind, each.name) for each in declared}
        found = [self._read(each) for each in declared]
        others = [
            Setting(kind=kind, place=self.place, name=name, found=dict(fields))
            for (kind, name), fields in self.things.items()
            if (kind, name) not in named
        ]
        return Found(settings=(*found, *others))

    def _read(self, setting: Setting) -> Setting:
        if setting.name in self.hidden:
            return with_found(setting, None, unread="nobody may look")
        return with_found(setting, self.things.get((setting.kind, setting.name)))

    def apply(self, changes: Sequence[Change]) -> Iterator[Outcome]:
        for each in changes:
            if each.name in self.broken:
                yield failed(each, "it is broken")
                continue
            self.log.append((each.action, each.kind, each.name))
            if each.action == "delete":
                del self.things[each.kind, each.name]
            else:
                there = self.things.setdefault((each.kind, each.name), {})
                there.update(each.wanted or {})
            yield done(each)


def wanted(kind: str, name: str, /, **fields: Plain) -> Setting:
    return Setting(kind=kind, place="shelf", name=name, wanted=fields)
