"""Checkpoints of detectron2."""
