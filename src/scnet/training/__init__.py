"""Training: the visible loop, optimiser and schedule, checkpoints, what is logged."""
