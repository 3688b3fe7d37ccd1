"""A pattern of a recipe, searched for in the names of files.

The pattern is a user's and the names are a stranger's, and Python's `re` can take centuries over two such: it is
searched for in a process that is ended when it takes too long.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

SEARCH_S = 20.0
NAMES_PER_S = 20_000  # far below what a sound pattern does

_SEARCH = """
import json, re, sys
pattern, names = json.load(sys.stdin)
search = re.compile(pattern).search
print(json.dumps([(found := search(name)) and found[1] for name in names]))
"""


class SearchError(ValueError):
    """The pattern takes too long."""


def search(key: str, pattern: str, names: Sequence[str]) -> list[str | None]:
    """What the pattern's one group finds in each name; None where nothing. `key`: of the recipe, for the refusal."""
    limit_s = SEARCH_S + len(names) / NAMES_PER_S
    command = [sys.executable, "-I", "-S", "-c", _SEARCH]
    try:
        done = subprocess.run(
            command, input=json.dumps([pattern, names]), capture_output=True, text=True, check=True, timeout=limit_s
        )
    except subprocess.TimeoutExpired:
        raise SearchError(
            f"{key} = {pattern!r}: searching {len(names)} file names took more than {limit_s:.0f} s. A "
            "repetition within a repetition, such as (a+)+, may never end; write it without."
        ) from None
    return list(json.loads(done.stdout))
