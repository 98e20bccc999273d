"""Training: the visible loop, optimiser and checkpoints."""
