"""A trained model as users hold it: what it takes, what it returns, and its faster forms."""
