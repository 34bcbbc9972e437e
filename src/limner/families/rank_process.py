"""The process of a rank that `train` has started: `python -m limner.families.rank_process`, with its order on standard input."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from datetime import timedelta

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from limner.core.distributed import Member, Ranks
from limner.families.ranks import AT_THE_END, HOST, PATIENCE
from limner.families.train import join


def main() -> None:
    """Run the command on the first line of standard input as one of its ranks; end when standard input does."""
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_rank_0, daemon=True).start()
    torch.set_num_threads(order["threads"])
    store = TCPStore(HOST, order["port"], order["world"], is_master=False, timeout=timedelta(seconds=PATIENCE))
    store.set(f"rank {order['rank']}", "there")
    join(order, Member(Ranks(order["rank"], order["world"], order["rank"]), store))


def _end_with_rank_0() -> None:
    """End this process some time after rank 0, whose pipe standard input is; after a regular end it has ended by itself by then."""
    sys.stdin.read()
    time.sleep(AT_THE_END / 2)
    os._exit(1)


if __name__ == "__main__":
    main()
