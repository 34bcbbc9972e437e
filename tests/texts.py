"""Texts of many scripts."""

from __future__ import annotations

import random
import unicodedata

TEXTS = (
    "woman firefighter: dark skin tone", "A RED, heart!", "the dog's ball", "", "...", "ＦＵＬＬ width №5", "قلب أحمر", "赤い心", "हिंदी शब्द", "Straße und ΣΊΣΥΦΟΣ",
    "a ❤️ and 👩🏿‍🚒", "İstanbul ʼn ǰ ﬁne", "\u202eevil\u2069 text", "один два три четыре пять шесть", "ภาษาไทย", "한국어 문장", "x" * 20_000, "e\u0301 cafe\u0301", "½ + ¾ = 1¼",
)  # fmt: skip


def random_text(rng: random.Random) -> str:
    """Assigned characters of all planes, common ones more often, with spaces between some."""
    ranges = ((32, 127), (160, 0x250), (0x370, 0x1100), (0x900, 0x1000), (0x2000, 0x2C00), (0x3000, 0xFFFE), (0x1F000, 0x1FB00), (0, 0x110000))
    characters = [chr(rng.randrange(*rng.choice(ranges))) for _ in range(rng.randrange(60))]
    return "".join(" " if rng.random() < 0.15 else c for c in characters if unicodedata.category(c) not in ("Cn", "Cs"))
