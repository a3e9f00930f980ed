"""Which network an address is in, by the address alone: what everybody can reach, what only we can, what nobody should
be sent to.

Sources: IANA's special-purpose address registries (RFC 6890); the clouds' own pages for their metadata services.
"""

from __future__ import annotations

import functools
import ipaddress
from typing import Literal

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

Kind = Literal["public", "inner", "metadata"]

_INNER = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",  # this host; Linux connects to loopback
        "10.0.0.0/8",  # RFC 1918
        "100.64.0.0/10",  # carriers' address translation (RFC 6598); EKS, GKE and Tailscale use it inside
        "127.0.0.0/8",
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments
        "192.168.0.0/16",
        "224.0.0.0/4",
        "240.0.0.0/4",  # reserved, and broadcast; some clouds route it inside
        "::/127",  # unspecified and loopback
        "64:ff9b:1::/48",  # NAT64 of one's own network (RFC 8215), which may lead to any of its IPv4 addresses
        "fc00::/7",  # unique local (RFC 4193)
        "fec0::/10",  # site-local, deprecated and still used
        "ff00::/8",
    )
)

_METADATA = tuple(
    ipaddress.ip_network(text)
    for text in (
        "169.254.0.0/16",  # link-local: AWS, Azure, GCP and most others; ECS at .170.2, EKS at .170.23
        "fe80::/10",
        "fd00:ec2::/32",  # AWS over IPv6
        "fd20:ce::254/128",  # GCP over IPv6
        "100.100.100.200/32",  # Alibaba
        "168.63.129.16/32",  # Azure's wire server
        "192.0.0.192/32",  # Oracle
    )
)

_HOLDING_V4 = tuple(
    (ipaddress.IPv6Network(text), shift)
    for text, shift in (
        ("::ffff:0:0/96", 0),  # IPv4-mapped
        ("::ffff:0:0:0/96", 0),  # IPv4-translated (RFC 2765)
        ("::/96", 0),  # IPv4-compatible
        ("64:ff9b::/96", 0),  # the well-known prefix of NAT64 (RFC 6052)
        ("2002::/16", 80),  # 6to4
    )
)
"""IPv6 networks whose addresses hold an IPv4 address that is reached in the end; bits behind it."""


@functools.lru_cache(1024)
def kind_of(address: str) -> Kind:
    """``public``, ``inner`` (only our network reaches it) or ``metadata`` (link-local and the clouds' metadata
    services, which give credentials to whoever asks). address: as ``getpeername`` says it, a zone is passed over. What
    is no address is inner. RFC 5737's documentation networks count as public."""
    try:
        ip = _plain(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return "inner"
    if any(ip in network for network in _METADATA):
        return "metadata"
    return "inner" if any(ip in network for network in _INNER) else "public"


def is_in(address: str, network: Network) -> bool:
    """Whether an address is in a network; an IPv4 address written as IPv6 too."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return ip in network or _plain(ip) in network


def _plain(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address that an IPv6 address holds, else the address itself."""
    if isinstance(ip, ipaddress.IPv4Address) or int(ip) < 2:
        return ip
    for network, shift in _HOLDING_V4:
        if ip in network:
            return ipaddress.IPv4Address(int(ip) >> shift & 0xFFFFFFFF)
    return ip
