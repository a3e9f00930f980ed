"""Where a registry may send us."""

from __future__ import annotations

import msgspec


class Redirects(msgspec.Struct, frozen=True, kw_only=True):
    """Where a registry may send us, by redirects and by every other address of another host that it names (an upload,
    the next page, its token service). A registry with a public address may send us to public addresses; one in an inner
    network also to inner ones; none to link-local addresses and the clouds' metadata services. Behind a proxy that is
    the proxy's business."""

    allow: tuple[str, ...] = ()
    """Places that are permitted all the same, as the object store behind a private link: `host`, `host:port`,
    `*.domain`, an address, or a network like `10.1.0.0/16`."""


__all__ = ["Redirects"]
