"""STS: roles that are assumed. Keys it gives are the account's whose role it is, and end when they say."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from tests.doubles.aws.ecr_registry import moment
from tests.doubles.aws.front import Area, AwsDouble, Call, Principal
from tests.doubles.aws.model import ApiError, Values

_ROLE = re.compile(r"arn:aws[a-z-]*:iam::(?P<account>\d{12}):role/(?P<name>[\w+=,.@/-]+)")


@dataclass
class Role:
    """external_id: that its trust policy asks for. session_s: most seconds of a session."""

    external_id: str = ""
    session_s: int = 3600


class Sts(Area):
    """roles: by ARN; nobody may assume any other."""

    service = "sts"

    def __init__(self, world: AwsDouble) -> None:
        super().__init__(world)
        self.roles: dict[str, Role] = {}

    def do_AssumeRole(self, call: Call) -> Values:
        arn = call.values["RoleArn"]
        role = self.roles.get(arn)
        if role is None or role.external_id != call.values.get("ExternalId", ""):
            text = f"User: {call.caller.arn} is not authorized to perform: sts:AssumeRole on resource: {arn}"
            raise ApiError("AccessDenied", text, status=403)
        return self._session(arn, role, call.values["RoleSessionName"], call.values.get("DurationSeconds"))

    def do_AssumeRoleWithWebIdentity(self, call: Call) -> Values:
        role = self.roles.get(call.values["RoleArn"])
        if role is None:
            raise ApiError("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", status=403)
        return self._session(call.values["RoleArn"], role, call.values["RoleSessionName"], None)

    def _session(self, arn: str, role: Role, name: str, asked_s: int | None) -> Values:
        found = _ROLE.fullmatch(arn)
        assert found is not None
        ends = self.world.clock() + min(asked_s or role.session_s, role.session_s)
        key, secret = f"ASIA{secrets.token_hex(8).upper()}", secrets.token_urlsafe(30)
        session = f"arn:aws:sts::{found['account']}:assumed-role/{found['name'].rpartition('/')[2]}/{name}"
        who = Principal(found["account"], secret, session, f"token-{secrets.token_urlsafe(40)}", ends)
        self.world.principals[key] = who
        return {
            "Credentials": {
                "AccessKeyId": key,
                "SecretAccessKey": secret,
                "SessionToken": who.token,
                "Expiration": moment(ends),
            },
            "AssumedRoleUser": {"AssumedRoleId": f"AROAEXAMPLEEXAMPLE:{name}", "Arn": session},
        }

    def do_GetCallerIdentity(self, call: Call) -> Values:
        return {"UserId": "AIDAEXAMPLE", "Account": call.caller.account, "Arn": call.caller.arn}


__all__ = ["Role", "Sts"]
