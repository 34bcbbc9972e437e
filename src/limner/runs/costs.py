"""What a run spends beside training, found by doing each thing once: previews, the metric, the animation at the end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

from limner.core import schedule
from limner.runs.callbacks import SAMPLES, Meter, rehearse

if TYPE_CHECKING:
    from limner.runs.run import Job


def watching_seconds(job: Job) -> float:
    """What the previews and the samples of the metric will take in a whole run: one of each, as often as there are marks."""
    network = job.method.nets[job.published]
    training, start = network.training, time.monotonic()
    network.eval()
    job.preview(network)
    seconds = time.monotonic() - start
    if job.generate and job.options.metric != "none":
        part = 32
        start = time.monotonic()
        job.generate(network, part)
        seconds += (time.monotonic() - start) * SAMPLES / part
    network.train(training)
    return seconds * len(schedule.preview_milestones(10**9))


def metric_seconds(job: Job, meter: Meter) -> float:
    """What the comparisons of the metric will take in a whole run, besides the samples; what they need once is made now."""
    network = job.method.nets[job.published]
    probe = meter.prepare()
    assert job.generate
    training = network.training
    network.eval()
    few = job.generate(network, 32)
    network.train(training)
    samples = torch.from_numpy(few).repeat(-(-SAMPLES // len(few)), 1, 1, 1)[:SAMPLES]
    start = time.monotonic()
    probe(samples)
    return (time.monotonic() - start) * len(schedule.preview_milestones(10**9))


def ending_seconds(job: Job) -> float:
    """What the sheets of previews as files, and the animation of them at the end, will take."""
    network = job.method.nets[job.published]
    training = network.training
    network.eval()
    sheet = job.preview(network)
    network.train(training)
    writing, encoding = rehearse(sheet)
    # the noise of an untrained network is the hardest to encode: pictures took half as long
    return (writing + encoding / 2) * len(schedule.preview_milestones(10**9))
