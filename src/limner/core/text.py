"""Text that is safe to print: file names and untrusted JSON cannot send control sequences to the terminal."""

from __future__ import annotations

import json
import re

MAX_PATH = 200    # characters of a path in a sentence
MAX_SENTENCE = 4_000       # characters of a sentence

# C0 and C1 controls and DEL (escape sequences, line breaks), line and paragraph separators, lone surrogates, and the
# bidirectional embeddings, overrides and isolates, which reorder what follows them (CVE-2021-42574). Joiners and direction
# marks stay: Persian, Arabic and emoji need them.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: object, keep: str = "") -> str:
    """Escape control characters, bidirectional overrides and invalid UTF-8 bytes in `text` as \\xNN or \\uNNNN.

    keep: control characters to leave unescaped, such as a newline.
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
    """Return printable text on one line, with the middle left out beyond MAX_SENTENCE characters."""
    text = printable(" ".join(text.split("\n")))
    return text if len(text) <= MAX_SENTENCE else f"{text[: MAX_SENTENCE // 2]} … {text[-MAX_SENTENCE // 2 :]}"


def shortened(path: object) -> str:
    """Return the printable path, with the middle left out beyond MAX_PATH characters."""
    text = printable(path)
    return text if len(text) <= MAX_PATH else f"{text[: MAX_PATH // 2]}…{text[-MAX_PATH // 2 :]}"


def _escaped(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8, as Python keeps it
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
