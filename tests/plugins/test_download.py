"""What a recipe's source may make the worker connect to: the public network, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from retraining.download import DownloadError, Network, download
from retraining.web_address import without_secrets

HOSTS = (
    *("127.0.0.1", "127.1", "0x7f.1", "0x7f000001", "2852039166", "017700000001", "0", "localhost", "localhost."),
    *("10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "192.0.0.8", "198.18.0.1"),
    *("224.0.0.1", "240.0.0.1", "255.255.255.255", "192.88.99.1", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[fe80::1]"),
    *(
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[ff02::1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[2001::1]",
        "[::127.0.0.1]",
    ),
    *("0177.0.0.1", "127.0.1", "10.1", "2130706433"),
    *("①②⑦.⓪.⓪.①", "127。0。0。1", "%31%32%37.0.0.1", "user@127.0.0.1", "example.com@127.0.0.1", "a\\@127.0.0.1"),
)
FORMS = ("https://{}/pets.zip", "HTTPS://{}:8443/pets.zip", "http://{}/pets.zip", "ftp://{}/pets.zip", "https:{}/p.zip")
URLS = [form.format(host) for host in HOSTS for form in FORMS]


def never(*arguments: Any, **_: Any) -> Any:
    raise AssertionError(f"nothing may be connected to, but was: {arguments}")


def resolving(*addresses: str) -> Any:
    return lambda host, port, type: [(0, type, 6, "", (address, port)) for address in addresses]


def test_no_connection_is_made_to_what_is_not_public(tmp_path: Path) -> None:
    assert len(URLS) >= 200
    for url in URLS:
        with pytest.raises(DownloadError):
            download(url, tmp_path / "pets.zip", 100, Network(connect=never))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "64:ff9b::1", "::ffff:8.8.8.8", "fe80::1%eth0"])
def test_one_private_address_of_a_host_is_enough(tmp_path: Path, address: str) -> None:
    network = Network(resolve=resolving("93.184.216.34", address), connect=never)
    with pytest.raises(DownloadError, match=r"example\.com is not on the public network.*RETRAINING_INTERNAL_HOSTS"):
        download("https://example.com/pets.zip", tmp_path / "pets.zip", 100, network)


def test_the_connection_goes_to_the_address_that_was_checked(tmp_path: Path) -> None:
    seen: list[Any] = []

    def connect(place: Any, timeout: float) -> Any:
        seen.append(place)
        raise OSError("refused")

    network = Network(resolve=resolving("93.184.216.34"), connect=connect)
    with pytest.raises(DownloadError, match="cannot be downloaded: refused"):
        download("https://example.com/pets.zip", tmp_path / "pets.zip", 100, network)
    network = Network(resolve=resolving("10.0.0.7"), connect=connect, internal_hosts=frozenset({"data.corp"}))
    with pytest.raises(DownloadError, match="cannot be downloaded: refused"):
        download("https://data.corp/pets.zip", tmp_path / "pets.zip", 100, network)
    assert seen == [("93.184.216.34", 443), ("10.0.0.7", 443)]


def test_no_secret_of_an_address_is_told(tmp_path: Path) -> None:
    for url in ("https://me:hunter2@example.com/a.zip", "https://example.com/a.zip?X-Amz-Signature=hunter2"):
        assert "hunter2" not in without_secrets(url)
        with pytest.raises(DownloadError) as refused:
            download(url, tmp_path / "a.zip", 100, Network(resolve=resolving("10.0.0.1"), connect=never))
        assert "hunter2" not in str(refused.value)
