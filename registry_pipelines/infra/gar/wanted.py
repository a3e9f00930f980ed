"""What is declared of an Artifact Registry as settings, and all that is wrong with it, before anything is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from registry_pipelines.errors import LifecycleInvalid
from registry_pipelines.infra.gar import alarms, forms, kinds
from registry_pipelines.infra.gar.model import BinauthzRule, GarInfra, GarRepositories, GarSource
from registry_pipelines.infra.gar.problems import Problem, problems, source_id
from registry_pipelines.infra.settings import Plain, Setting

MAX_CLEANUP_CHARACTERS = 100_000


class Wanted:
    """The settings that one registry is to have. project, location: the registry's own."""

    def __init__(self, infra: GarInfra, *, project: str, location: str) -> None:
        self.problems: list[Problem] = []
        self.settings: list[Setting] = []
        self._place, self._project, self._location = infra.name, project, location
        self._cleanups: dict[Path, Plain] = {}
        self.problems += problems(infra)
        for position, group in enumerate(infra.repositories):
            self._repositories(group, f"repositories[{position}]")
        self._others(infra)

    def _add(self, kind: str, name: str, wanted: dict[str, Plain] | None, source: str, **more: Any) -> None:
        fixed = kinds.FIXED.get(kind, ())
        values = {"kind": kind, "place": self._place, "name": name, "source": source, "fixed": fixed, **more}
        self.settings.append(Setting(wanted=wanted, **values))

    def _repositories(self, group: GarRepositories, path: str) -> None:
        kind = kinds.VIRTUAL if group.virtual is not None else kinds.REPOSITORY
        fields = self._fields(group, path)
        unseen = ("remote.validate",) if group.remote is not None and group.remote.validate is not None else ()
        for name in group.names:
            if group.absent:
                self._add(kind, name, {"force": group.force}, path, absent=True)
                continue
            self._add(kind, name, dict(fields), path, unseen=unseen)
            if group.readers is not None:
                self._add(kinds.READERS, name, {"members": sorted(set(group.readers))}, f"{path}.readers")

    def _fields(self, group: GarRepositories, path: str) -> dict[str, Plain]:
        fields: dict[str, Plain] = {f"{kinds.LABEL}{name}": value for name, value in group.labels.items()}
        told: dict[str, Plain] = {
            "description": group.description,
            "kms_key": group.kms_key,
            "immutable_tags": group.immutable,
            "cleanup_dry_run": group.cleanup_dry_run,
            "scanning": group.scanning,
            "maven.version_policy": group.maven_versions,
            "maven.snapshot_overwrites": group.maven_overwrites,
        }
        if group.remote is not None:
            told["remote.upstream"] = group.remote.upstream.rstrip("/")
            told["remote.username"] = group.remote.username
            told["remote.password_secret"] = group.remote.password_secret
            told["remote.validate"] = group.remote.validate
        if group.virtual is not None:
            told["upstreams"] = {source_id(each): self._source(each) for each in group.virtual}
        if group.cleanup is not None:
            told["cleanup"] = self._cleanup(group.cleanup, f"{path}.cleanup")
        mode = "VIRTUAL" if group.virtual is not None else "REMOTE" if group.remote is not None else "STANDARD"
        fields |= {"format": group.format, "mode": f"{mode}_REPOSITORY"}
        return fields | {name: value for name, value in told.items() if value is not None}

    def _source(self, source: GarSource) -> dict[str, Plain]:
        name = source.repository
        if "/" not in name:
            name = f"projects/{self._project}/locations/{self._location}/repositories/{name}"
        return {"repository": name, "priority": source.priority}

    def _cleanup(self, file: Path, path: str) -> Plain:
        if file not in self._cleanups:
            self._cleanups[file] = None
            try:
                with file.open("rb") as opened:
                    text = opened.read(4 * MAX_CLEANUP_CHARACTERS).decode()
                self._cleanups[file] = forms.cleanup(text)
            except OSError as error:
                self.problems.append((path, f"{file} cannot be read: {error.strerror}"))
            except UnicodeDecodeError:
                self.problems.append((path, f"{file} is not UTF-8"))
            except LifecycleInvalid as error:
                self.problems += ((path, f"{file}: {problem}") for problem in error.problems)
        return self._cleanups[file]

    def _others(self, infra: GarInfra) -> None:
        if infra.readers:
            members = {f"{kinds.MEMBER}{each}": True for each in infra.readers}
            self._add(kinds.PROJECT_READERS, self._project, members, "readers")
        for name, attestor in infra.attestors.items():
            note = attestor.note or name
            hint = {"kind": "ATTESTATION", "hint": attestor.hint or name}
            if not any(each.kind == kinds.NOTE and each.name == note for each in self.settings):
                self._add(kinds.NOTE, note, hint, f"attestors.{name}")
            fields: dict[str, Plain] = {
                "note": f"projects/{self._project}/notes/{note}",
                "keys": sorted(forms.key_id(each.kms) for each in attestor.keys),
            }
            fields |= {"description": attestor.description} if attestor.description is not None else {}
            self._add(kinds.ATTESTOR, name, fields, f"attestors.{name}")
        self._policy(infra)
        for key in infra.kms_keys:
            wanted = {"enabled": key.enabled, "purpose": key.purpose, "algorithm": key.algorithm}
            wanted["protection"] = key.protection
            fields = {name: value for name, value in wanted.items() if value is not None}
            self._add(kinds.KEY, key.key, fields, "kms_keys", must_exist=True)
        for perimeter in infra.perimeters:
            fields = {f"{kinds.SERVICE}{each}": True for each in perimeter.services}
            fields |= {f"{kinds.PROJECT}{each}": True for each in perimeter.projects}
            self._add(kinds.PERIMETER, perimeter.name, fields, "perimeters", must_exist=True)
        for channel in infra.channels:
            told = None if channel.absent else alarms.channel_fields(channel)
            self._add(kinds.CHANNEL, channel.name, told, "channels", absent=channel.absent)
        sound = [each for each in infra.alarms if not list(alarms.alert_problems([each], infra.channels))]
        for alert in sound:  # of the others it is told already what is wrong
            watched = alarms.alert_fields(alert, place=self._place, location=self._location)
            self._add(kinds.ALERT, alert.name, None if alert.absent else watched, "alarms", absent=alert.absent)

    def _policy(self, infra: GarInfra) -> None:
        policy = infra.binary_authorization
        if policy is None:
            return
        fields: dict[str, Plain] = {"default": self._rule(policy.default)}
        fields |= {f"{kinds.CLUSTER}{name}": self._rule(rule) for name, rule in policy.clusters.items()}
        told: dict[str, Plain] = {"system_images": policy.system_images, "description": policy.description}
        told["always_allowed"] = None if policy.always_allowed is None else sorted(policy.always_allowed)
        fields |= {name: value for name, value in told.items() if value is not None}
        self._add(kinds.POLICY, self._project, fields, "binary_authorization")

    def _rule(self, rule: BinauthzRule) -> dict[str, Plain]:
        named = [each if "/" in each else f"projects/{self._project}/attestors/{each}" for each in rule.attestors]
        return {"evaluation": rule.evaluation, "enforcement": rule.enforcement, "attestors": sorted(named)}
