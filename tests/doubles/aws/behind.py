"""moto's server, which answers what no area does. One for the process, started by the first request that needs it."""

from __future__ import annotations

import http.client
import threading
import warnings
from collections.abc import Callable, Mapping

from tests.doubles.aws.model import ApiError
from tests.doubles.aws.protocols import Wire
from tests.patience import patient

_LOCK = threading.Lock()
_SERVER: list[tuple[str, int]] = []


def moto_address() -> tuple[str, int]:
    """Host and port of moto's own server: what a test compares our double with."""
    with _LOCK:
        if not _SERVER:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # moto warns that not all of its extra is there
                from moto.server import ThreadedMotoServer

            server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
            server.start()
            _SERVER.append(server.get_host_and_port())
        return _SERVER[0]


class Behind:
    """prepare: called before each request, to put what areas hold into moto's state."""

    def __init__(self) -> None:
        self._used = False
        self.prepare: list[Callable[[Wire, str], None]] = []

    @property
    def used(self) -> bool:
        """Whether moto holds anything of this double."""
        return self._used

    def begin(self) -> None:
        """moto is there, and empty at first."""
        if not self._used:
            self._reset()
            self._used = True

    def forward(self, wire: Wire, account: str) -> tuple[int, Mapping[str, str], bytes]:
        """Its answer. Raises ApiError 400 for an operation that it does not have either."""
        self.begin()
        for prepare in self.prepare:
            prepare(wire, account)
        skipped = {"content-length", "connection", "expect"}
        headers = {name: value for name, value in wire.head.headers if name.lower() not in skipped}
        headers["x-moto-account-id"] = account
        status, back, content = self._ask(wire.head.method, wire.head.target, wire.body, headers)
        if status >= 500 and "html" in back.get("Content-Type", ""):
            text = f"neither an area of tests/doubles/aws nor moto has {wire.service} {wire.operation}"
            raise ApiError("UnknownOperationException", text)
        return status, back, content

    def _ask(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(*moto_address(), timeout=patient(30))
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        hop = {"connection", "date", "transfer-encoding", "content-length", "server"}
        return answer.status, {name: value for name, value in answer.getheaders() if name.lower() not in hop}, content

    def _reset(self) -> None:
        assert self._ask("POST", "/moto-api/reset", b"", {"Host": "127.0.0.1"})[0] == 200

    def stop(self) -> None:
        """What this double put there is gone."""
        if self._used:
            self._reset()
            self._used = False


__all__ = ["Behind", "moto_address"]
