"""Which addresses of the internet are everybody's; ml/pictures/remote.py has the same rule, tests/contract compares."""

from __future__ import annotations

import ipaddress

# Not public whatever `is_global` says, whose table depends on the release of Python (CVE-2024-4032): protocol
# assignments, 6to4 and its relays, documentation. IPv6 addresses that carry an IPv4 one (mapped, compatible, NAT64) lie
# outside 2000::/3, which is all of the IPv6 network that is in public use.
NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    )
)
PUBLIC_V6 = ipaddress.ip_network("2000::/3")


def is_public(text: str) -> bool:
    """Whether this is an address, as getaddrinfo answers it, that leads to no machine of the worker's own network."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if not address.is_global or address.is_multicast or address.is_reserved or getattr(address, "scope_id", None):
        return False
    if address.version == 6 and address not in PUBLIC_V6:
        return False
    return not any(address in network for network in NOT_PUBLIC)
