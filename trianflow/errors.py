"""Errors that a user can mend: one line each, which says what is wrong and what to do."""


class TrianflowError(Exception):
    """A failed run (exit code 1): bad input data, an unwritable folder, nothing to do."""


class UsageError(TrianflowError):
    """Wrong use (exit code 2): an option, argument or configuration key that cannot be right."""
