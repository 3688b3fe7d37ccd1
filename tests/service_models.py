"""botocore's descriptions of services, read once in a process.

A task that runs in a process of its own reads them for its two or three clients; tests make hundreds of clients, for
which parsing the same megabytes of JSON, and looking into four hundred folders for which there are, was most of their
work.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from botocore.loaders import JSONFileLoader, Loader


def read_once() -> None:
    """From now on, for every session of this process."""
    JSONFileLoader.load_file = staticmethod(functools.cache(JSONFileLoader().load_file))
    Loader.list_available_services = _once_for_each_path(Loader.list_available_services)


def _once_for_each_path(listed: Callable[[Loader, str], list[str]]) -> Callable[[Loader, str], list[str]]:
    known: dict[tuple[str, ...], list[str]] = {}

    def list_available_services(loader: Loader, type_name: str) -> list[str]:
        key = (type_name, *loader.search_paths)
        if key not in known:
            known[key] = listed(loader, type_name)
        return known[key]

    return list_available_services
