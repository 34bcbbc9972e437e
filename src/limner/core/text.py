"""Text that is safe to print: whatever a file name or a stranger's JSON holds, the terminal receives no command."""

from __future__ import annotations

import re

LONGEST = 200  # characters of a path in a sentence

# C0 and C1 controls and DEL (escape sequences, line breaks), line and paragraph separators, and the bidirectional
# embeddings, overrides and isolates, which reorder what follows them (CVE-2021-42574). Joiners and direction marks stay:
# Persian, Arabic and emoji need them.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def printable(text: object) -> str:
    """`text` with control characters, bidirectional overrides and bytes that are not UTF-8 shown as \\xNN or \\uNNNN."""
    shown = str(text).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return _UNSAFE.sub(lambda match: _escaped(ord(match[0])), shown)


def shortened(path: object) -> str:
    """`printable(path)` with the middle left out where it is longer than a sentence bears."""
    text = printable(path)
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}…{text[-LONGEST // 2 :]}"


def _escaped(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
