"""Why a recipe must not be run, in a form that finds the key again."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable, Sequence

from retraining.printable import printable
from retraining.web_address import without_secrets

MAX_SHOWN = 200
"""Characters of a value, or of a key."""
MAX_ERRORS = 20
"""That are told besides the first."""

NO_SECRETS = (
    "Recipes lie in repositories, and requests and logs show what they hold. W&B needs no key with mode: offline; for "
    "others let the training image bring WANDB_API_KEY or MLFLOW_TRACKING_TOKEN (RETRAINING_TRAINING_IMAGE names it), "
    "or use a SageMaker MLflow server's ARN, which the job's role opens."
)


class RecipeError(ValueError):
    """A recipe that must not be run. `where` is the file (or the trigger form) it came from."""

    def __init__(
        self, key: str, value: object, rule: str, way_out: str = "", where: str = "", others: Sequence[str] = ()
    ) -> None:
        self.key, self.value, self.rule, self.way_out, self.where, self.others = (
            key, value, rule, way_out, where, tuple(others),
        )  # fmt: skip
        at = f"{where}: " if where else ""
        after = f" {way_out}" if way_out else ""
        first = f"{at}{printable(key[:MAX_SHOWN])} = {shown(value)}: {rule}.{after}"
        super().__init__("\n  also ".join((first, *self.others)))

    def inside(self, key: str) -> RecipeError:
        """The same error, seen from the section that holds it."""
        path = f"{key}.{self.key}" if self.key else key
        return RecipeError(path, self.value, self.rule, self.way_out, self.where, self.others)

    def found_in(self, where: str) -> RecipeError:
        return RecipeError(self.key, self.value, self.rule, self.way_out, where, self.others)

    def together_with(self, errors: Sequence[RecipeError]) -> RecipeError:
        """This error, and after it what else is wrong in the same recipe, up to MAX_ERRORS."""
        others = [str(error) for error in errors[:MAX_ERRORS]]
        if left := len(errors) - len(others):
            others.append(f"{left} more")
        return RecipeError(self.key, self.value, self.rule, self.way_out, self.where, others)


def shown(value: object) -> str:
    """A value on one line: no secret of an address, and short whatever it is (YAML can nest and repeat without end)."""
    short = reprlib.Repr()
    short.maxlevel, short.maxdict, short.maxlist, short.maxtuple, short.maxset = 3, 6, 6, 6, 6
    short.maxstring = short.maxother = short.maxlong = MAX_SHOWN
    if isinstance(value, str):
        value = without_secrets(value[: 4 * MAX_SHOWN])
    elif isinstance(value, int) and abs(value) >= 10**MAX_SHOWN:
        return f"a number of more than {MAX_SHOWN} digits"
    try:
        return without_secrets(short.repr(value)[: 8 * MAX_SHOWN])
    except ValueError:  # a number within it that is too long to write
        return f"one {type(value).__name__}"


def require(condition: bool, key: str, value: object, rule: str, way_out: str = "") -> None:
    if not condition:
        raise RecipeError(key, value, rule, way_out)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"Did you mean {close[0]}?" if close else ""


def way_out_of_exponent(value: object) -> str:
    """Of 1e-4, which YAML takes for a text where 1.0e-4 is a number; empty for whatever else."""
    if not isinstance(value, str) or not re.fullmatch(r"[-+]?[0-9]+(\.[0-9]*)?e[-+]?[0-9]+", value, re.IGNORECASE):
        return ""
    return "YAML reads this as a text. Write it as 0.0001, or as 1.0e-4 with a dot; whole numbers without an e."


def refuse_secret(key: str, within: str = "") -> None:
    """RecipeError for a key that wants to hold a secret; its value is not repeated."""
    if re.search(r"api[-_]?key|token|passw|secret|credential", key, re.IGNORECASE):
        raise RecipeError(f"{within}.{key}".lstrip("."), "…", "looks like a secret", NO_SECRETS)
