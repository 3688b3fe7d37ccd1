"""CloudWatch Logs' filter patterns for unstructured text.

Words must all occur (as parts of the message, with their case); "quoted phrases" are words; ?one ?another is either;
-word must not occur. As on AWS, a word of other characters than letters, digits and _ must be quoted, and ?words beside
plain ones are ignored. Patterns of JSON and of space-delimited fields are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from local_sagemaker.wire.errors import ApiError

_TERM = re.compile(r'\s*(?P<sign>[-?]?)(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s"]+))')


def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a message matches. Raises an InvalidParameterException for what is no such pattern."""
    text = pattern.strip()
    if text[:1] in ("{", "[", "%"):
        raise _invalid(
            'local_sagemaker matches words and "phrases" (?either, -not). Patterns of JSON, of fields and of regular '
            f"expressions are not implemented: {text[:80]}"
        )
    terms: dict[str, list[str]] = {"": [], "?": [], "-": []}
    position = 0
    while position < len(text):
        term = _TERM.match(text, position)
        if term is None:
            raise _invalid(f"Invalid filter pattern: a quote is not closed in '{text[:80]}'")
        terms[term["sign"]].append(_word(term))
        position = term.end()
    required, either, excluded = terms[""], terms["?"], terms["-"]

    def matches(message: str) -> bool:
        if any(word in message for word in excluded) or not all(word in message for word in required):
            return False
        return bool(required) or not either or any(word in message for word in either)

    return matches


def _word(term: re.Match[str]) -> str:
    if term["quoted"] is not None:
        return re.sub(r"\\(.)", r"\1", term["quoted"])
    if not re.fullmatch(r"\w+", term["plain"]):
        raise _invalid(f"Invalid character(s) in term '{term['plain'][:80]}'")
    return term["plain"]


def _invalid(message: str) -> ApiError:
    return ApiError("InvalidParameterException", message)
