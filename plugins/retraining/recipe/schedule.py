"""When a recipe retrains: the cron lines that Airflow's timetable takes, so that no other gets as far as Airflow.

There a bad line would take the DAGs of all recipes with it, and a day that never comes would stop the scheduler.
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
