"""An https address that a stranger wrote: its parts, read in the one way that nobody else can read otherwise."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, urljoin

MAX_CHARACTERS = 8_000
PORT = 443
ADDRESS = re.compile(
    r"(?i:https)://(?P<host>[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[!$-;=@-Z_a-z~%\[\]|^'&]*)?(?P<query>\?[!-~]*)?(?P<fragment>#[!-~]*)?",
    re.ASCII,
)
SECRET = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]{0,20}:/{0,9})[^\s/?#]{0,2000}@")
QUERY = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]{0,20}://[^\s?#'\"]{0,2000})[?#][^\s'\"]*")


class AddressError(ValueError):
    """This is no address that may be fetched. Its text holds no secret of the address."""


@dataclass(frozen=True, kw_only=True)
class WebAddress:
    """Of one file on one host."""

    host: str
    """Lower case; an IPv6 address without its brackets."""
    port: int
    target: str
    """Path and query, as they are asked for. The query may be a signature: never show it."""

    @classmethod
    def of(cls, text: str) -> WebAddress:
        """Raises AddressError for plain http, a user or password, and whatever two programs might read in two ways."""
        shown = without_secrets(text[:300])
        if len(text) > MAX_CHARACTERS:
            raise AddressError(f"{shown}…: an address has at most {MAX_CHARACTERS} characters.")
        if has_user(text):
            raise AddressError(
                f"{shown}: an address may hold no user or password; recipes, logs and reports show it. Use an address "
                "that needs none (a presigned one, or s3://), or download it yourself."
            )
        if text.lower().startswith("http:"):
            raise AddressError(f"{shown}: plain http can be changed on the way; use https, or download it yourself.")
        found = ADDRESS.fullmatch(_escaped(text))
        port = int(found["port"] or PORT) if found else 0
        if not found or not 0 < port < 2**16:
            raise AddressError(f"{shown}: an address must be https://host/path in plain ASCII.")
        host = found["host"].lower().strip("[]").rstrip(".")
        return cls(host=host, port=port, target=(found["path"] or "/") + (found["query"] or ""))

    @property
    def place(self) -> str:
        """Scheme, host and path: all that may be stored and shown."""
        return f"https://{self.authority}{self.target.partition('?')[0]}"

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORT else f"{host}:{self.port}"

    def follow(self, location: str) -> WebAddress:
        """Where a redirect leads; AddressError as for any other address."""
        return WebAddress.of(urljoin(f"https://{self.authority}{self.target}", location))


def has_user(text: str) -> bool:
    return SECRET.search(text) is not None


def without_secrets(text: str) -> str:
    """A text whose addresses have no user, no password, no query: what may be stored and shown."""
    return QUERY.sub(r"\1", SECRET.sub(r"\1…@", text))


def _escaped(text: str) -> str:
    """Blanks and letters of other languages in the path, which browsers escape as well; never in the host."""
    scheme, slashes, rest = text.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{slashes}{host}{slash}{quote(path, safe='!#$%&()*+,/:;=?@[]|^~' + chr(39))}"
