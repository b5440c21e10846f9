"""The one exception that a user is meant to read."""


class GanaugError(Exception):
    """Bad input. The message says what was expected, what came, and how to mend it; the command line prints it alone."""
