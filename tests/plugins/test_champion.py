"""champion.json has one owner at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from retraining.promotion.champion import ChampionMoved, read_champion, replace_champion

KEY = "digits/champion.json"


def test_before_the_first_run_there_is_none(s3: Any, bucket: str) -> None:
    assert read_champion(s3, bucket, KEY).document is None


def test_the_pointer_moves_from_run_to_run(s3: Any, bucket: str) -> None:
    for name in ("one", "two"):
        replace_champion(s3, bucket, KEY, read_champion(s3, bucket, KEY), {"run_name": name})
    assert read_champion(s3, bucket, KEY).document == {"run_name": "two"}


@pytest.mark.parametrize("first", [True, False], ids=["first run", "later run"])
def test_a_pointer_that_moved_is_left_alone(s3: Any, bucket: str, first: bool) -> None:
    if not first:
        replace_champion(s3, bucket, KEY, read_champion(s3, bucket, KEY), {"run_name": "zero"})
    before = read_champion(s3, bucket, KEY)
    replace_champion(s3, bucket, KEY, before, {"run_name": "theirs"})
    with pytest.raises(ChampionMoved, match=r"was changed by run theirs while this run was under way"):
        replace_champion(s3, bucket, KEY, before, {"run_name": "ours"})
    assert read_champion(s3, bucket, KEY).document == {"run_name": "theirs"}


def test_repeating_after_a_lost_answer_is_harmless(s3: Any, bucket: str) -> None:
    before = read_champion(s3, bucket, KEY)
    for _ in range(2):
        replace_champion(s3, bucket, KEY, before, {"run_name": "ours"})


def test_of_many_at_once_one_wins(s3: Any, bucket: str) -> None:
    before = read_champion(s3, bucket, KEY)

    def promote(number: int) -> bool:
        try:
            replace_champion(s3, bucket, KEY, before, {"run_name": str(number)})
        except ChampionMoved:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(promote, range(8)))
    assert won.count(True) == 1
    assert read_champion(s3, bucket, KEY).document == {"run_name": str(won.index(True))}
