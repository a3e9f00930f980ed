"""What an index knows us by: given words, the keyring, netrc, a token of a cloud. Sent in a header, written nowhere."""

from __future__ import annotations

import base64
import netrc
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

from registry_pipelines.errors import InputError, ToolMissing, Unauthorized
from registry_pipelines.registry.client.credentials import Credentials

_NETRC_NAMES = (".netrc", "_netrc")


class Login:
    """The credentials of one index, found when they are first needed, and again when they end or are refused. find:
    gives them; none are sent when it gives none. Safe for many threads."""

    def __init__(self, find: Callable[[], Credentials]) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._known: Credentials | None = None

    def now(self, *, anew: bool = False) -> Credentials:
        """The credentials. anew: those that were known are refused. Raises what finding them raises."""
        with self._lock:
            if self._known is None or anew or time.time() > self._known.use_until:
                self._known = self._find()
            return self._known

    def hidden(self, text: str) -> str:
        """Words of whoever was given the log-in, without it: some proxies answer an error with all they were sent."""
        known = self._known
        if known is None or not known.password:
            return text
        pair = base64.b64encode(f"{known.username}:{known.password}".encode()).decode()
        for secret in (pair, quote(known.password, safe=""), known.password):
            text = text.replace(secret, "REDACTED")
        return text

    def header(self, *, anew: bool = False) -> str:
        """Value of ``Authorization`` (RFC 7617); empty for none."""
        found = self.now(anew=anew)
        if found.anonymous:
            return ""
        pair = f"{found.username}:{found.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


def nobody() -> Credentials:
    """No log-in: a folder, an open index."""
    return Credentials()


def of_this_machine(
    url: str,
    *,
    username: str = "",
    password: str = "",
    keyring: bool = False,
    netrc_file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Credentials:
    """The log-in of an address: what is given, else the keyring's where that is to be asked, else netrc's, else none.

    A user name alone chooses among several entries of the keyring. Raises ToolMissing (no keyring), InputError (a
    netrc file that cannot be read, or was named and is not there), Unauthorized (the keyring fails).
    """
    if password:
        return Credentials(username, password)
    if keyring and (found := _from_keyring(url, username)):
        return found
    return _from_netrc(urlsplit(url).hostname or "", netrc_file, environ) or Credentials(username)


def _from_keyring(url: str, username: str) -> Credentials | None:
    """As pip asks: first for the address, then for its host."""
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError as error:
        raise ToolMissing(
            "the package keyring is not installed",
            where=urlsplit(url).netloc,
            do="Install it: pip install 'registry-pipelines[packages]'; or take `keyring` out of this index",
        ) from error
    try:
        for service in (url, urlsplit(url).netloc):
            if found := keyring.get_credential(service, username or None):
                return Credentials(found.username, found.password)
    except (KeyringError, RuntimeError) as error:  # its words may hold what it was given
        raise Unauthorized(
            f"the keyring of this machine cannot be asked ({type(error).__name__})",
            where=urlsplit(url).netloc,
            do="Unlock it, or install a backend; `keyring diagnose` says which is used",
        ) from None
    return None


def _from_netrc(host: str, file: Path | None, environ: Mapping[str, str]) -> Credentials | None:
    named = file or (Path(environ["NETRC"]) if environ.get("NETRC") else None)
    home = Path(environ.get("HOME") or Path.home())
    for path in [named] if named else [home / name for name in _NETRC_NAMES]:
        try:
            found = netrc.netrc(path).authenticators(host)
        except FileNotFoundError:
            if named:
                raise InputError(f"there is no file {path}", where="netrc") from None
            continue
        except netrc.NetrcParseError as error:  # its text may quote a line, and a line may be a password
            raise InputError(f"line {error.lineno} of {path} is not readable", where="netrc", do="Correct it") from None
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise InputError(f"{path} cannot be read: {reason}", where="netrc") from error
        if found:
            return Credentials(found[0] or "", found[2] or "")
        return None
    return None


__all__ = ["Login", "nobody", "of_this_machine"]
