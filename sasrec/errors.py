"""What is the user's to mend, as one type."""


class DataError(ValueError):
    """Input that breaks a contract. The message is one line: source, column, row, and the fix."""
