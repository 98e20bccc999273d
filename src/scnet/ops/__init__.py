"""Shapes, boxes and masks: pure tensor functions, nothing of the rest is imported here."""
