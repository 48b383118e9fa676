"""A drawn farm, and the whole way on it."""
