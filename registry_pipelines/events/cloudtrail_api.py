"""CloudTrail asked: the event history of 90 days (LookupEvents), and event data stores (CloudTrail Lake).

Sources: the CloudTrail API reference, "LookupEvents" (two requests a second for an account in a region, 50 events a
page, newest first, 90 days), "StartQuery", "GetQueryResults"; the user guide, "Supported SQL schemas for event data
stores". Lake takes no new customers since 2026-05-31; who has a store goes on using it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from registry_pipelines.errors import InputError, RegistryError, Stalled
from registry_pipelines.events.cloudtrail import SOURCE, events_of_record
from registry_pipelines.oci.times import read_time
from registry_pipelines.registry.ecr.calls import AwsCalls
from registry_pipelines.report.audit.model import Event, Names, Reading, plain

KEPT = timedelta(days=90)
"""Of the event history."""
PAUSE_S = 0.55
"""Between two requests: two a second are let through, for everybody in the account."""
MOST_REQUESTS = 400
"""Of one run: 20,000 events in four minutes. The next run goes on."""
LATE = timedelta(hours=1)
"""Events come into the history within 15 minutes, mostly; so much before the cursor is asked for again."""
WINDOW = timedelta(days=1)
"""What is asked for at once. It is read whole before the cursor moves: a page begins with the newest."""
LEAST_WINDOW = timedelta(minutes=5)
QUERY_WAIT_S = 600.0
"""How long a query of Lake may take."""
LOOK_S = 2.0
ROWS = 1000
"""Of a page of Lake's results; its limit."""
_STORE = re.compile(r"([a-zA-Z0-9._/\-:]*:eventdatastore/)?(?P<id>[a-fA-F0-9-]{36})")


class CloudTrailHistory:
    """LookupEvents of one account in one region. pause: what waits between requests."""

    def __init__(
        self,
        name: str,
        calls: AwsCalls,
        region: str,
        *,
        names: Names,
        pause: Callable[[float], None] = time.sleep,
        most: int = MOST_REQUESTS,
    ) -> None:
        self.where = f"the event history of CloudTrail in {region}"
        self._name, self._calls, self._region, self._names = name, calls, region, names
        self._pause, self._left = pause, most

    def read(self, reading: Reading, *, since: datetime, until: datetime) -> Iterator[Event]:
        """See LogSource."""
        oldest = until - KEPT + timedelta(hours=1)
        if since < oldest and "until" not in reading.cursor:
            reading.note("the event history has 90 days; for more give the log files of a trail, or a store of Lake")
        start, width = max(since, oldest, _cursor(reading, until) - LATE), WINDOW
        while start < until:
            end = min(start + width, until)
            found = yield from self._window(reading, start, end)
            if found is None:
                return
            reading.cursor["until"] = end.astimezone(UTC).isoformat()
            start, width = end, _next_width(width, found)

    def _window(self, reading: Reading, start: datetime, end: datetime) -> Generator[Event, None, int | None]:
        """All events of a window; returns how many, None where the requests of this run are used up."""
        asked: dict[str, Any] = {
            "LookupAttributes": [{"AttributeKey": "EventSource", "AttributeValue": SOURCE}],
            "StartTime": start,
            "EndTime": end,
            "MaxResults": 50,
        }
        count = 0
        while True:
            if self._left <= 0:
                reading.note(
                    f"the history was read up to {start:%Y-%m-%dT%H:%MZ}, because two requests a second are let "
                    "through; the next run goes on there. Log files of a trail have no such limit"
                )
                reading.whole = False
                return None
            self._left -= 1
            answer = self._calls.call(
                "lookup_events",
                where=self.where,
                doing="reading the event history",
                service="cloudtrail",
                region=self._region,
                **asked,
            )
            for each in answer.get("Events") or ():
                count += 1
                yield from events_of_record(
                    str(each.get("CloudTrailEvent") or "").encode(), reading, source=self._name, names=self._names
                )
            token = answer.get("NextToken")
            if not token:
                return count
            if token == asked.get("NextToken"):
                raise RegistryError("the event history leads to the same page again", where=self.where)
            asked["NextToken"] = token
            self._pause(PAUSE_S)


def _next_width(width: timedelta, found: int) -> timedelta:
    """Few events: ask for more at once; many: for less, so that a run that ends early loses little."""
    if found < 200:
        return min(width * 2, timedelta(days=14))
    return max(width / 2, LEAST_WINDOW) if found > 2000 else width


def _cursor(reading: Reading, until: datetime) -> datetime:
    """How far it was read; never after now: a clock that was wrong must not hide what came since."""
    found = read_time(reading.cursor.get("until", ""))
    return min(found, until) if found else datetime.min.replace(tzinfo=UTC) + KEPT


class CloudTrailLake:
    """An event data store, asked by SQL. store: its ARN or id."""

    def __init__(
        self,
        name: str,
        calls: AwsCalls,
        region: str,
        store: str,
        *,
        names: Names,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        match = _STORE.fullmatch(store)
        if match is None:
            raise InputError(f"{store[:120]!r} is no event data store", do="Write its ARN, or the id at its end")
        self.where = f"the event data store {match['id']} of CloudTrail Lake"
        self._id, self._name, self._calls, self._region, self._names = match["id"], name, calls, region, names
        self._pause = pause

    def read(self, reading: Reading, *, since: datetime, until: datetime) -> Iterator[Event]:
        """See LogSource."""
        start = max(since, _cursor(reading, until) - LATE)
        query = self._call("start_query", "starting a query", QueryStatement=_sql(self._id, start, until))["QueryId"]
        yield from self._rows(reading, query)
        reading.cursor["until"] = until.astimezone(UTC).isoformat()

    def _rows(self, reading: Reading, query: str) -> Iterator[Event]:
        asked: dict[str, Any] = {"QueryId": query, "MaxQueryResults": ROWS}
        waited = 0.0
        while True:
            answer = self._call("get_query_results", "reading a query's rows", **asked)
            status = str(answer.get("QueryStatus"))
            if status in ("QUEUED", "RUNNING"):
                if waited >= QUERY_WAIT_S:
                    raise Stalled(f"a query has not ended after {QUERY_WAIT_S:g} s", where=self.where)
                self._pause(LOOK_S)
                waited += LOOK_S
                continue
            if status != "FINISHED":
                said = plain(str(answer.get("ErrorMessage") or ""))[:200]
                raise RegistryError(f"the query ended as {status}: {said}", where=self.where)
            for row in answer.get("QueryResultRows") or ():
                yield from self._row(reading, row)
            token = answer.get("NextToken")
            if not token:
                return
            if token == asked.get("NextToken"):
                raise RegistryError("the query's rows lead to the same page again", where=self.where)
            asked["NextToken"] = token

    def _row(self, reading: Reading, row: list[dict[str, str]]) -> Iterator[Event]:
        values = {key: value for cell in row for key, value in cell.items()}
        raw = msgspec.json.encode(_record_of(values))
        yield from events_of_record(raw, reading, source=self._name, names=self._names)

    def _call(self, operation: str, doing: str, **values: Any) -> Any:
        return self._calls.call(
            operation, where=self.where, doing=doing, service="cloudtrail", region=self._region, **values
        )


_FIELDS = {
    "eventID": "eventID",
    "eventTime": "eventTime",
    "eventName": "eventName",
    "eventSource": "eventSource",
    "awsRegion": "awsRegion",
    "sourceIPAddress": "sourceIPAddress",
    "userAgent": "userAgent",
    "errorCode": "errorCode",
    "readOnly": "readOnly",
    "recipientAccountId": "recipientAccountId",
    "serviceEventDetails": "serviceEventDetails",
    "identityType": "userIdentity.type",
    "arn": "userIdentity.arn",
    "principalId": "userIdentity.principalId",
    "accountId": "userIdentity.accountId",
    "userName": "userIdentity.userName",
    "invokedBy": "userIdentity.invokedBy",
    "issuer": "userIdentity.sessionContext.sessionIssuer.arn",
    "request": "json_format(cast(requestParameters AS json))",
    "response": "json_format(cast(responseElements AS json))",
}
_TEXT_LIMIT = "%Y-%m-%d %H:%M:%S"


def _sql(store: str, start: datetime, end: datetime) -> str:
    """Everything in it is ours or was checked: nothing that a person wrote stands in the text."""
    columns = ", ".join(f"{expression} AS {name}" for name, expression in _FIELDS.items())
    first, last = (each.astimezone(UTC).strftime(_TEXT_LIMIT) for each in (start, end))
    return (
        f"SELECT {columns} FROM {store} "  # noqa: S608  the id was checked
        f"WHERE eventSource = '{SOURCE}' AND eventTime >= '{first}' AND eventTime < '{last}' ORDER BY eventTime"
    )


def _record_of(values: dict[str, str]) -> dict[str, Any]:
    """A row as the record that it came of. Maps of Lake have texts for values: those that are JSON are read again."""
    text = {key: values.get(key) or None for key in _FIELDS}
    identity = {
        "type": text["identityType"],
        "arn": text["arn"],
        "principalId": text["principalId"],
        "accountId": text["accountId"],
        "userName": text["userName"],
        "invokedBy": text["invokedBy"],
        "sessionContext": {"sessionIssuer": {"arn": text["issuer"]}} if text["issuer"] else None,
    }
    at = (text["eventTime"] or "").replace(" ", "T")
    return {
        **{name: text[name] for name in list(_FIELDS)[:10]},
        "eventTime": at if at.endswith("Z") or not at else f"{at}Z",
        "awsRegion": text["awsRegion"] or "",
        "readOnly": None if text["readOnly"] is None else text["readOnly"] == "true",
        "userIdentity": identity,
        "requestParameters": _map(text["request"]),
        "responseElements": _map(text["response"]),
        "serviceEventDetails": _json(text["serviceEventDetails"]),
    }


def _map(text: str | None) -> Any:
    found = _json(text)
    if not isinstance(found, dict):
        return None
    nested = {"imageIds", "image", "failures"}
    return {key: _json(value) if key in nested and isinstance(value, str) else value for key, value in found.items()}


def _json(text: str | None) -> Any:
    if not text:
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return None


__all__ = ["CloudTrailHistory", "CloudTrailLake"]
