"""Checkpoints of MMDetection."""
