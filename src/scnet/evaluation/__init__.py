"""Run a model over a data set and score what it finds."""
