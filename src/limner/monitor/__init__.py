"""The doctor: probes compute signals from a run's networks, rules turn signals into findings, adjustments follow."""
