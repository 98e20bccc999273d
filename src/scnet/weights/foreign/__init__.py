"""Checkpoints of other libraries; one folder for each."""
