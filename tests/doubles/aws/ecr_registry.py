"""ECR's registries, repositories and the account's settings. Lists come in pages of ``maxResults`` (100 when not said)
with an opaque token."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tests.doubles.aws.ecr_places import Content, Memory, Place, Repository
from tests.doubles.aws.front import Area, AwsDouble, Call, pages
from tests.doubles.aws.model import ApiError, Values

_VALUES = {
    "BASIC_SCAN_TYPE_VERSION": ("AWS_NATIVE", "CLAIR"),
    "REGISTRY_POLICY_SCOPE": ("V1", "V2"),
    "BLOB_MOUNTING": ("ENABLED", "DISABLED"),
}


def moment(seconds: float) -> datetime:
    """As boto3 has times."""
    return datetime.fromtimestamp(seconds, UTC)


class EcrRegistries(Area):
    """places: by account and region, made when first asked for. behind: gives a new one's content."""

    service = "ecr"

    def __init__(self, world: AwsDouble) -> None:
        super().__init__(world)
        self.places: dict[tuple[str, str], Place] = {}
        self.behind: Callable[[str, str], Content] = lambda account, region: Memory()
        self.password = "token-" + uuid.uuid4().hex
        self.token_life_s = 12 * 3600.0
        self.excluded: dict[str, float] = {}
        self._pages: dict[str, tuple[str, list[Values]]] = {}
        world.behind.prepare.append(self._tell_moto)

    def at(self, account: str, region: str) -> Place:
        """One registry, with nothing in it at first."""
        if (account, region) not in self.places:
            self.places[account, region] = Place(account, region, self.behind(account, region))
        return self.places[account, region]

    def place(self, call: Call) -> Place:
        """The registry that a call is about: its ``registryId``, else the caller's own."""
        return self.at(call.values.get("registryId", call.account), call.region)

    def repository(self, call: Call) -> Repository:
        """Raises ApiError."""
        return self.place(call).repository(call.values["repositoryName"])

    def _tell_moto(self, wire: Any, account: str) -> None:
        """moto has what belongs to repositories (tags, policies), so it must know them."""
        if wire.service not in ("ecr", "resourcegroupstaggingapi"):
            return
        from moto.ecr.models import ecr_backends

        for place in self.places.values():
            backend = ecr_backends[place.account][place.region]
            for name in place.repositories.keys() - backend.repositories.keys():
                backend.create_repository(name, None, None, None, "MUTABLE", [])  # type: ignore[arg-type]
            for name in backend.repositories.keys() - place.repositories.keys():
                del backend.repositories[name]

    # Repositories

    def do_CreateRepository(self, call: Call) -> Values:
        place, name = self.place(call), call.values["repositoryName"]
        if name in place.repositories:
            text = f"The repository with name '{name}' already exists in the registry with id '{place.account}'"
            raise ApiError("RepositoryAlreadyExistsException", text)
        mode, filters = self._mutability(call)
        made = Repository(name, self.world.clock(), mode, filters)
        made.scan_on_push = call.values.get("imageScanningConfiguration", {}).get("scanOnPush", False)
        made.encryption = call.values.get("encryptionConfiguration", made.encryption)
        place.repositories[name] = made
        made.labels = {one["Key"]: one["Value"] for one in call.values.get("tags", [])}
        return {"repository": self._about(place, made)}

    def do_DeleteRepository(self, call: Call) -> Values:
        place, there = self.place(call), self.repository(call)
        if there.images and not call.values.get("force"):
            text = f"The repository with name '{there.name}' in registry with id '{place.account}' cannot be deleted"
            raise ApiError("RepositoryNotEmptyException", f"{text} because it still contains images")
        for digest in list(there.images):
            place.content.delete(there.name, digest)
        del place.repositories[there.name]
        return {"repository": self._about(place, there)}

    def do_DescribeRepositories(self, call: Call) -> Values:
        place = self.place(call)
        names = call.values.get("repositoryNames")
        if names and ("maxResults" in call.values or "nextToken" in call.values):
            raise ApiError("InvalidParameterException", "repositoryNames and pages exclude each other")
        found = [self._about(place, place.repository(name)) for name in names or sorted(place.repositories)]
        if names:
            return {"repositories": found}
        return pages(self._pages, "DescribeRepositories", "repositories", found, call.values)

    def do_PutImageTagMutability(self, call: Call) -> Values:
        place, there = self.place(call), self.repository(call)
        there.mode, there.filters = self._mutability(call)
        return {"registryId": place.account, "repositoryName": there.name, **_mode(there)}

    def do_PutImageScanningConfiguration(self, call: Call) -> Values:
        place, there = self.place(call), self.repository(call)
        there.scan_on_push = call.values["imageScanningConfiguration"].get("scanOnPush", False)
        said = {"imageScanningConfiguration": {"scanOnPush": there.scan_on_push}}
        return {"registryId": place.account, "repositoryName": there.name, **said}

    def _mutability(self, call: Call) -> tuple[str, tuple[str, ...]]:
        mode = call.values.get("imageTagMutability", "MUTABLE")
        filters = tuple(one["filter"] for one in call.values.get("imageTagMutabilityExclusionFilters", []))
        if mode.endswith("_WITH_EXCLUSION") != bool(filters) or len(filters) > 5:
            raise ApiError(
                "InvalidParameterException", f"{mode} and {len(filters)} exclusion filters do not go together"
            )
        return mode, filters

    def _about(self, place: Place, there: Repository) -> Values:
        return {
            "registryId": place.account,
            "repositoryName": there.name,
            "repositoryArn": place.arn(there.name),
            "repositoryUri": f"{place.host}/{there.name}",
            "createdAt": moment(there.created_at),
            "imageScanningConfiguration": {"scanOnPush": there.scan_on_push},
            "encryptionConfiguration": there.encryption,
            **_mode(there),
        }

    # The account

    def do_GetAuthorizationToken(self, call: Call) -> Values:
        token = base64.b64encode(f"AWS:{self.password}".encode()).decode()
        data = []
        for account in call.values.get("registryIds", [call.account]):
            place = Place(account, call.region, Memory())
            data.append(
                {
                    "authorizationToken": token,
                    "expiresAt": moment(self.world.clock() + self.token_life_s),
                    "proxyEndpoint": f"https://{place.host}",
                }
            )
        return {"authorizationData": data}

    def do_GetAccountSetting(self, call: Call) -> Values:
        name = call.values["name"]
        place = self.at(call.account, call.region)
        if name not in _VALUES:
            raise ApiError("ValidationException", f"there is no setting {name!r}")
        return {"name": name, "value": place.settings[name]}

    def do_PutAccountSetting(self, call: Call) -> Values:
        name, value = call.values["name"], call.values["value"]
        if value not in _VALUES.get(name, ()):
            raise ApiError("ValidationException", f"{name!r} cannot be {value!r}")
        self.at(call.account, call.region).settings[name] = value
        return {"name": name, "value": value}

    def do_RegisterPullTimeUpdateExclusion(self, call: Call) -> Values:
        arn = call.values["principalArn"]
        if arn in self.excluded:
            raise ApiError("ExclusionAlreadyExistsException", arn)
        self.excluded[arn] = self.world.clock()
        return {"principalArn": arn, "createdAt": moment(self.excluded[arn])}

    def do_DeregisterPullTimeUpdateExclusion(self, call: Call) -> Values:
        arn = call.values["principalArn"]
        if self.excluded.pop(arn, None) is None:
            raise ApiError("ExclusionNotFoundException", arn)
        return {"principalArn": arn}

    def do_ListPullTimeUpdateExclusions(self, call: Call) -> Values:
        name = "pullTimeUpdateExclusions"
        return pages(self._pages, "ListPullTimeUpdateExclusions", name, sorted(self.excluded), call.values)  # type: ignore[arg-type]


def _mode(there: Repository) -> Values:
    filters = [{"filterType": "WILDCARD", "filter": one} for one in there.filters]
    return {
        "imageTagMutability": there.mode,
        **({"imageTagMutabilityExclusionFilters": filters} if filters else {}),
    }
