"""What everything else stands on: images, trained things on disk, ranks, schedules, devices."""
