"""A server's certificate: read when it starts, and again when its files were replaced, as they are by cert-manager."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path

from registry_pipelines.errors import InputError


class ServerTls:
    """PEM files of a chain and its key (in one file unless ``key`` is given). Safe to use from many threads."""

    def __init__(self, certificate: Path, key: Path | None) -> None:
        self._certificate, self._key = certificate, key
        self._context: ssl.SSLContext | None = None
        self._seen: tuple[int, ...] = ()
        self._lock = threading.Lock()

    def read(self) -> ssl.SSLContext:
        """Read the files now. Raises InputError: they do not fit, or the key is encrypted."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        seen = self._looked()
        try:
            context.load_cert_chain(self._certificate, self._key, password=self._no_password)
        except (OSError, ssl.SSLError) as error:
            absent = [path for path in (self._certificate, self._key) if path and not path.is_file()]
            what = "the file is not there" if absent else f"certificate or key cannot be used: {error}"
            where = str(absent[0] if absent else self._certificate)
            raise InputError(what, where=where, do="Give PEM files that fit") from error
        self._context, self._seen = context, seen
        return context

    def wrap(self, sock: socket.socket) -> ssl.SSLSocket:
        """The server's side of a handshake. Files that were replaced are read first; while they cannot be read (one of
        the two is new already) the certificate of before goes on. Raises OSError."""
        with self._lock:
            if self._context is None or self._looked() != self._seen:
                with suppress(InputError):
                    self.read()
            context = self._context
        if context is None:
            raise OSError("the certificate cannot be read")
        return context.wrap_socket(sock, server_side=True)

    def _looked(self) -> tuple[int, ...]:
        try:
            return tuple(path.stat().st_mtime_ns for path in (self._certificate, self._key or self._certificate))
        except OSError:
            return ()

    def _no_password(self) -> str:
        """OpenSSL would ask the terminal for one, and a service wait there for ever."""
        raise InputError(
            "the key of the certificate is encrypted, and a server cannot ask for its password",
            where=str(self._key or self._certificate),
            do="Give a plain one that only the server may read: openssl pkey -in FILE -out PLAIN",
        )


__all__ = ["ServerTls"]
