"""Text that is safe to print: whatever a file name or a stranger's JSON holds, the terminal receives no command."""

from __future__ import annotations

import json
import re

LONGEST_PATH = 200    # characters of a path in a sentence
LONGEST = 4_000       # characters of a sentence

# C0 and C1 controls and DEL (escape sequences, line breaks), line and paragraph separators, lone surrogates, and the
# bidirectional embeddings, overrides and isolates, which reorder what follows them (CVE-2021-42574). Joiners and direction
# marks stay: Persian, Arabic and emoji need them.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: object, keep: str = "") -> str:
    """`text` with control characters, bidirectional overrides and bytes that are not UTF-8 shown as \\xNN or \\uNNNN.

    keep: control characters that may stay, such as a newline in text of several lines.
    """
    return _UNSAFE.sub(lambda match: match[0] if match[0] in keep else _escaped(ord(match[0])), str(text))


def counted(count: int, one: str, many: str = "") -> str:
    """`1 picture`, `1,200 pictures`. many: the plural, where it is more than `one` with an s."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def printable_json(value: object) -> str:
    """`value` as indented JSON whose strings hold no unsafe character: each is written as \\uNNNN, which JSON reads back."""
    text = json.dumps(value, indent=1, ensure_ascii=False)  # outside of strings only line breaks are unsafe
    return _UNSAFE.sub(lambda match: match[0] if match[0] == "\n" else f"\\u{ord(match[0]):04x}", text)


def sentence(text: str) -> str:
    """`printable` text on one line, cut in its middle where it is longer than anybody reads."""
    text = printable(" ".join(text.split("\n")))
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"


def shortened(path: object) -> str:
    """`printable(path)` with the middle left out where it is longer than a sentence bears."""
    text = printable(path)
    return text if len(text) <= LONGEST_PATH else f"{text[: LONGEST_PATH // 2]}…{text[-LONGEST_PATH // 2 :]}"


def _escaped(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8, as Python keeps it
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
