"""botocore's descriptions of services, read once in a process.

A task that runs in a process of its own reads them for its two or three clients; tests make hundreds of clients, for
which parsing the same megabytes of JSON was most of their work.
"""

from __future__ import annotations

import functools

from botocore.loaders import JSONFileLoader


def read_once() -> None:
    """From now on, for every session of this process."""
    JSONFileLoader.load_file = staticmethod(functools.cache(JSONFileLoader().load_file))
