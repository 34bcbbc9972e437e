"""Foundations: images, trained models on disk, distributed ranks, schedules, devices."""
