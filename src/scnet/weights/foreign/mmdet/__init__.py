"""Checkpoints of MMDetection 2.x and 3.x."""
