"""Text from strangers on its way to a terminal: nothing in a name may move the cursor, recolor, retitle or reorder."""

from __future__ import annotations

import unicodedata

LONGEST = 4_000  # characters of a sentence; a path of 5,000 would hide what is said about it
_REORDERS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # bidirectional controls
_UNSAFE = ("Cc", "Cs", "Zl", "Zp")  # controls (C0, DEL, C1), lone surrogates, line and paragraph separators


def printable(text: str, keep: str = "") -> str:
    """`text` with each control character, bidirectional override and lone surrogate written as an escape (`\\x1b`).

    keep: control characters that may stay, such as a newline in text of several lines.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep or not _unsafe(c) else _escape(c) for c in text)


def sentence(text: str) -> str:
    """`printable` text on one line, cut in its middle where it is longer than anybody reads."""
    text = printable(" ".join(text.split("\n")))
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"


def _unsafe(c: str) -> bool:
    return c in _REORDERS or unicodedata.category(c) in _UNSAFE


def _escape(c: str) -> str:
    code = ord(c)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
