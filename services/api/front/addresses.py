"""Whose request this is: the peer's address, or the one that a trusted proxy names."""

import ipaddress
from collections.abc import Sequence

from starlette.requests import HTTPConnection

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Networks = Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]
MOST_HOPS = 20


def parse_address(text: str | None) -> Address | None:
    """Read an address; an IPv4 address inside IPv6 becomes the IPv4 address."""
    try:
        address = ipaddress.ip_address((text or "").strip().strip("[]"))
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def is_inside(address: Address, networks: Networks) -> bool:
    """Whether one of the networks contains the address."""
    return any(address in network for network in networks if network.version == address.version)


def account(address: Address | None) -> str:
    """Return what limits count by: an IPv4 address, or the /64 network of an IPv6 address."""
    if isinstance(address, ipaddress.IPv6Address) and not address.is_loopback:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def client_address(request: HTTPConnection, proxies: Networks) -> Address | None:
    """Return the client's address: the peer's, or behind trusted proxies the one they saw.

    ``X-Forwarded-For`` is read from its end, and only as far as the addresses are trusted: what
    stands before may be the client's invention.
    """
    peer = parse_address(request.client.host if request.client else None)
    if peer is None or not is_inside(peer, proxies):
        return peer
    hops = ",".join(request.headers.getlist("x-forwarded-for")).split(",")[-MOST_HOPS:]
    address = peer
    for hop in reversed(hops):
        found = parse_address(hop)
        if found is None:
            break
        address = found
        if not is_inside(found, proxies):
            break
    return address
