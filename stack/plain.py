"""Text of others in a terminal: names of classes, log lines and reasons may hold what a terminal obeys."""

import unicodedata

# Kept: line ends and tabs, and the joiners without which Persian and many languages of India are misspelt.
KEPT = frozenset("\n\t\u200c\u200d")
OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's categories of control and format characters, halves of pairs, and other line ends."""


def plain(text: str) -> str:
    """The text with what a terminal would obey (colours, titles, cursors, right-to-left order) written as \\x1b."""
    return "".join(
        letter if letter in KEPT or unicodedata.category(letter) not in OBEYED else ascii(letter)[1:-1]
        for letter in text
    )
