"""AWS Signer: the profiles that images are signed with. What is signed is not here."""

from __future__ import annotations

from tests.doubles.aws.front import Area, AwsDouble, Call, pages
from tests.doubles.aws.model import ApiError, Values

PLATFORMS = {"Notation-OCI-SHA384-ECDSA": "Notation for Container Registries", "AWSLambda-SHA384-ECDSA": "AWS Lambda"}


class SignerProfiles(Area):
    """profiles: by account, region and name."""

    service = "signer"

    def __init__(self, world: AwsDouble) -> None:
        super().__init__(world)
        self.profiles: dict[tuple[str, str, str], Values] = {}
        self._pages: dict[str, tuple[str, list[Values]]] = {}

    def do_PutSigningProfile(self, call: Call) -> Values:
        name = call.values["profileName"]
        if (call.account, call.region, name) in self.profiles:
            raise ApiError("ValidationException", f"A profile with name {name} already exists")
        if call.values["platformId"] not in PLATFORMS:
            raise ApiError("ResourceNotFoundException", f"there is no platform {call.values['platformId']}", status=404)
        arn = f"arn:aws:signer:{call.region}:{call.account}:/signing-profiles/{name}"
        version = "AbCdEfGhIj"
        self.profiles[call.account, call.region, name] = {
            "profileName": name,
            "profileVersion": version,
            "profileVersionArn": f"{arn}/{version}",
            "platformId": call.values["platformId"],
            "platformDisplayName": PLATFORMS[call.values["platformId"]],
            "signatureValidityPeriod": call.values.get("signatureValidityPeriod", {"value": 135, "type": "MONTHS"}),
            "status": "Active",
            "arn": arn,
        }
        return {"arn": arn, "profileVersion": version, "profileVersionArn": f"{arn}/{version}"}

    def _profile(self, call: Call) -> Values:
        found = self.profiles.get((call.account, call.region, call.values["profileName"]))
        if found is None:
            raise ApiError("ResourceNotFoundException", "there is no such profile", status=404)
        return found

    def do_GetSigningProfile(self, call: Call) -> Values:
        return self._profile(call)

    def do_CancelSigningProfile(self, call: Call) -> Values:
        self._profile(call)["status"] = "Canceled"
        return {}

    def do_ListSigningProfiles(self, call: Call) -> Values:
        found = [
            each
            for (account, region, _), each in sorted(self.profiles.items())
            if (account, region) == (call.account, call.region)
            and (each["status"] == "Active" or call.values.get("includeCanceled"))
        ]
        return pages(self._pages, "ListSigningProfiles", "profiles", found, call.values, size=25)


__all__ = ["SignerProfiles"]
