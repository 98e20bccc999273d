"""What is raised where data cannot be used."""


class DataError(ValueError):
    """Data that cannot be used: says what is wrong, where, and what to do."""
