"""Which of the processes that torchrun started this one is; known before they have met."""

import os


def is_first() -> bool:
    """Whether this process speaks and writes for all of them."""
    return int(os.environ.get("RANK", 0)) == 0


def is_first_of_host() -> bool:
    return int(os.environ.get("LOCAL_RANK", 0)) == 0
