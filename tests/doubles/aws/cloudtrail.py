"""AWS CloudTrail: the event history, and queries of a store of CloudTrail Lake. Source: the CloudTrail API reference,
"LookupEvents" (newest first, 50 a page, 90 days, one attribute), "StartQuery", "GetQueryResults"."""

from __future__ import annotations

import json
import re
import secrets
from datetime import UTC, datetime
from typing import Any

from tests.doubles.aws.front import ApiError, Area, AwsDouble, Call
from tests.doubles.aws.model import Values

HISTORY_S = 90 * 24 * 3600


class CloudTrail(Area):
    """records: as CloudTrail writes them, of every region. looks: how often a query is asked for before it is done.
    queries: the SQL of each."""

    service = "cloudtrail"

    def __init__(self, world: AwsDouble) -> None:
        super().__init__(world)
        self.records: list[dict[str, Any]] = []
        self.looks = 1
        self.queries: dict[str, str] = {}
        self.failure = ""
        self._pages: dict[str, tuple[Values, list[dict[str, Any]]]] = {}
        self._left: dict[str, int] = {}

    def do_LookupEvents(self, call: Call) -> Values:
        values = call.values
        asked = {key: each for key, each in values.items() if key not in ("NextToken", "MaxResults")}
        if "NextToken" in values:
            made_for, found = self._pages.pop(values["NextToken"], ({}, []))
            if made_for != asked:
                raise ApiError("InvalidNextTokenException", "The request is not that of the token")
        else:
            if len(values.get("LookupAttributes", ())) > 1:
                raise ApiError("InvalidLookupAttributesException", "You can only specify one attribute")
            found = self._found(call, values)
        size = values.get("MaxResults", 50)
        page, left = found[:size], found[size:]
        answer: Values = {"Events": [self._event(each) for each in page]}
        if left:
            answer["NextToken"] = secrets.token_urlsafe(40)
            self._pages[answer["NextToken"]] = asked, left
        return answer

    def _found(self, call: Call, values: Values) -> list[dict[str, Any]]:
        [wanted] = values.get("LookupAttributes") or [{"AttributeKey": "EventSource", "AttributeValue": None}]
        assert wanted["AttributeKey"] == "EventSource", "the double knows this attribute alone"
        oldest = self.world.clock() - HISTORY_S
        start = max(_seconds(values.get("StartTime", 0)), oldest)
        end = _seconds(values.get("EndTime", self.world.clock()))
        if end < start:
            raise ApiError("InvalidTimeRangeException", "EndTime is before StartTime")
        of_region = (each for each in self.records if each["awsRegion"] == call.region)
        matching = [each for each in of_region if wanted["AttributeValue"] in (None, each["eventSource"])]
        timed = [each for each in matching if start <= _at(each) <= end]
        return sorted(timed, key=_at, reverse=True)

    def _event(self, record: dict[str, Any]) -> Values:
        return {
            "EventId": record["eventID"],
            "EventName": record["eventName"],
            "EventTime": datetime.fromtimestamp(_at(record), UTC),
            "EventSource": record["eventSource"],
            "CloudTrailEvent": json.dumps(record),
        }

    def do_StartQuery(self, call: Call) -> Values:
        sql = call.values["QueryStatement"]
        if not re.search(r"FROM [0-9a-f-]{36} WHERE", sql):
            raise ApiError("InvalidQueryStatementException", "no event data store is named")
        query = f"{secrets.token_hex(4)}-0000-4000-8000-{secrets.token_hex(6)}"
        self.queries[query], self._left[query] = sql, self.looks
        return {"QueryId": query}

    def do_GetQueryResults(self, call: Call) -> Values:
        query = call.values["QueryId"]
        if query not in self.queries:
            raise ApiError("QueryIdNotFoundException", "there is no such query")
        if self._left[query] > 0:
            self._left[query] -= 1
            return {"QueryStatus": "RUNNING"}
        if self.failure:
            return {"QueryStatus": "FAILED", "ErrorMessage": self.failure}
        rows = [self._row(each) for each in self.records if each["eventSource"] == "ecr.amazonaws.com"]
        first = int(call.values.get("NextToken", "0000")) if "NextToken" in call.values else 0
        size = call.values.get("MaxQueryResults", 100)
        answer: Values = {"QueryStatus": "FINISHED", "QueryResultRows": rows[first : first + size]}
        if first + size < len(rows):
            answer["NextToken"] = f"{first + size:04}"
        return answer

    def _row(self, record: dict[str, Any]) -> list[dict[str, str]]:
        """A row as Lake answers: a list of one-entry maps, times with a blank, maps whose values are texts."""
        who = record.get("userIdentity", {})
        issuer = who.get("sessionContext", {}).get("sessionIssuer", {}).get("arn")
        values = {
            **{key: record.get(key) for key in ("eventID", "eventName", "eventSource", "awsRegion", "errorCode")},
            "eventTime": record["eventTime"].replace("T", " ").replace("Z", ".000"),
            "sourceIPAddress": record.get("sourceIPAddress"),
            "userAgent": record.get("userAgent"),
            "readOnly": None if record.get("readOnly") is None else str(record["readOnly"]).lower(),
            "recipientAccountId": record.get("recipientAccountId"),
            "identityType": who.get("type"),
            **{key: who.get(key) for key in ("arn", "principalId", "accountId", "userName", "invokedBy")},
            "issuer": issuer,
            "request": _map(record.get("requestParameters")),
            "response": _map(record.get("responseElements")),
            "serviceEventDetails": _text(record.get("serviceEventDetails")),
        }
        return [{key: "" if value is None else value} for key, value in values.items()]


def _map(found: dict[str, Any] | None) -> str | None:
    if found is None:
        return None
    return json.dumps({key: each if isinstance(each, str) else json.dumps(each) for key, each in found.items()})


def _text(found: Any) -> str | None:
    return None if found is None else json.dumps(found)


def _seconds(moment: Any) -> float:
    return moment.timestamp() if isinstance(moment, datetime) else float(moment)


def _at(record: dict[str, Any]) -> float:
    return datetime.fromisoformat(record["eventTime"]).timestamp()


__all__ = ["CloudTrail"]
