"""What is printed carries no command to the terminal."""

from __future__ import annotations

import json

from limner.core.text import counted, printable, printable_json


def test_json_that_is_printed_holds_no_command_and_reads_back() -> None:
    given = {"name\x1b]0;x\x07": ["del \x7f", "c1 \x9b31m", "bidi \u202e", "surrogate \udcff", "größe ✓", "line\nbreak"], "n": 1.5}
    text = printable_json(given)
    assert json.loads(text) == given and "größe ✓" in text
    assert printable(text, keep="\n") == text and text.encode()  # nothing left to escape, and UTF-8 can hold it


def test_a_count_agrees_with_its_noun() -> None:
    assert [counted(n, "picture") for n in (0, 1, 2, 1200)] == ["0 pictures", "1 picture", "2 pictures", "1,200 pictures"]
    assert counted(1, "picture is", "pictures are") == "1 picture is" and counted(2, "picture is", "pictures are") == "2 pictures are"
