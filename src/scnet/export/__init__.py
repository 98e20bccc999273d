"""Models as files that other runtimes predict with."""
