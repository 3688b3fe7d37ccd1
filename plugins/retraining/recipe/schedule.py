"""When a recipe retrains: the cron lines and assets that Airflow takes, so that no others get as far as Airflow.

There a bad one would take the DAGs of all recipes with it, and a day that never comes would stop the scheduler.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

MAX_CHARACTERS = 200
PRESETS = ("@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")
"""Airflow's names for lines; for others it has none."""
NOT_SETTLED = re.compile(r"(?<![a-z])[rh](?![a-z])", re.IGNORECASE)
"""croniter draws a random time for R, at each parse another, and wants more than a line for H."""
LONG_NUMBER = re.compile(r"\d{5}")
ASSET = re.compile(r"s3://[a-z0-9][a-z0-9.-]*[a-z0-9](/[!-~]*[!-.0-~])?|[A-Za-z0-9][\w.-]*", re.ASCII)
MAX_ASSET = 1000
"""Characters; Airflow keeps 1500."""
NO_ASSETS = ("self", "context")
"""Names that Airflow keeps for itself."""
YEARS = 8
"""Within so many comes every day that ever comes: also between 1896 and 1904 there was one 29th of February."""


def is_schedule(line: str) -> bool:
    """Whether the line is one of the presets, or has five fields and a moment that comes; in the words of croniter,
    as Airflow reads it: names of days and months, lists, ranges, steps, `1#1` and `L`."""
    from croniter import CroniterError, croniter

    if line in PRESETS:
        return True
    if len(line) > MAX_CHARACTERS or len(line.split()) != 5 or not line.isascii():
        return False
    if NOT_SETTLED.search(line) or LONG_NUMBER.search(line):
        return False
    try:
        croniter(line, datetime.now(UTC), max_years_between_matches=YEARS).get_next()
    except (CroniterError, ValueError, KeyError, IndexError, OverflowError):
        return False
    return True


def is_asset(text: str) -> bool:
    """Whether Airflow would take it for an asset's name and URI as it is, so that a producer's is the same one."""
    return (
        len(text) <= MAX_ASSET and text not in NO_ASSETS and bool(ASSET.fullmatch(text)) and not set("?#") & set(text)
    )
