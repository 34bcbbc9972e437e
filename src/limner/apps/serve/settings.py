"""Limits of a server."""

from __future__ import annotations

from dataclasses import dataclass

MAX_N = 10  # pictures of a request, OpenAI's limit


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a server accepts. Raises ValueError for values out of range.

    max_batch: pictures of one forward pass. batch_wait: seconds that a request waits for others to share its batch. queue_seconds:
    expected seconds of waiting and computing beyond which a request is refused with 429. queue_requests: of each model, at most.
    timeout: seconds until 504. max_pixels: of an uploaded picture, and of the picture made of it. max_body, max_json, body_seconds: see `apps.web.factory`.
    max_open: requests answered at once. truncation: whether networks without a style space are calibrated for it.
    """

    max_batch: int = 64
    batch_wait: float = 0.004
    queue_seconds: float = 0.5
    queue_requests: int = 256
    timeout: float = 30.0
    max_pixels: int = 4_000_000
    max_body: int = 32 << 20
    max_json: int = 4 << 20
    max_open: int = 512
    body_seconds: float = 30.0
    truncation: bool = False

    def __post_init__(self) -> None:
        for name, flag, lowest, highest in (
            ("max_batch", "--max-batch", 1, 4096), ("batch_wait", "--batch-wait", 0, 1), ("queue_seconds", "--queue-seconds", 0.01, 3600),
            ("timeout", "--timeout", 0.1, 3600), ("max_pixels", "--max-pixels", 1024, 178_000_000),
        ):  # fmt: skip
            value = getattr(self, name)
            if not lowest <= value <= highest:  # also False for NaN
                raise ValueError(f"{flag} goes from {lowest:g} to {highest:,}, and {value:g} is outside.")
