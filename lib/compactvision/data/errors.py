"""The one error for files that are not in the state they should be in."""


class DataError(RuntimeError):
    """A data set's files are missing, damaged, unreadable or cannot be written.

    The message names the file or folder and what to do about it. Wrong *arguments* raise ``ValueError`` instead.
    """
