"""The doctor: probes that look at a run's networks, rules that read what they report, and adjustments within bounds."""
