"""Which addresses are public has one home each side: what the data step refuses, serving refuses."""

from __future__ import annotations

import json
import os
import random
import subprocess
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from retraining.public_address import is_public

ROOT = Path(__file__).parents[2]
JUDGE = """
import json, sys
from pictures.remote import is_public
print(json.dumps([is_public(address) for address in json.load(sys.stdin)]))
"""
KNOWN = {
    "8.8.8.8": True, "93.184.216.34": True, "2606:4700::1111": True, "2a00:1450:4001::1": True,
    "127.0.0.1": False, "10.1.2.3": False, "172.31.255.255": False, "192.168.1.1": False, "169.254.169.254": False,
    "100.64.0.1": False, "0.0.0.0": False, "192.0.0.8": False, "192.0.2.1": False, "192.88.99.1": False,
    "198.18.0.1": False, "203.0.113.1": False, "224.0.0.1": False, "240.0.0.1": False, "255.255.255.255": False,
    "::": False, "::1": False, "::ffff:8.8.8.8": False, "::8.8.8.8": False, "64:ff9b::808:808": False,
    "64:ff9b:1::1": False, "100::1": False, "2001::1": False, "2001:db8::1": False, "2002:808:808::1": False,
    "3fff::1": False, "fc00::1": False, "fe80::1": False, "fe80::1%eth0": False, "ff02::1": False, "fec0::1": False,
    "localhost": False, "127.1": False, "0x7f000001": False, "2130706433": False, "①②⑦.⓪.⓪.①": False, "": False,
}  # fmt: skip


def test_both_sides_know_the_same_addresses() -> None:
    rng = random.Random(1)
    drawn = [str(IPv4Address(rng.getrandbits(32))) for _ in range(2000)]
    drawn += [str(IPv6Address(rng.getrandbits(125) | rng.choice((0, 1)) << 125)) for _ in range(2000)]
    addresses = [*KNOWN, *drawn]
    python, environment = ROOT / ".venv/ml/bin/python", os.environ | {"PYTHONPATH": str(ROOT / "ml")}
    done = subprocess.run(
        [python, "-c", JUDGE], env=environment, input=json.dumps(addresses), capture_output=True, text=True, check=True
    )
    ours = [is_public(address) for address in addresses]
    assert json.loads(done.stdout) == ours
    assert dict(zip(KNOWN, ours, strict=False)) == KNOWN
