"""A generated data set, so that a model can be trained and tried within minutes, anywhere."""
