"""The repository's address, in the one place from which every other one is written."""

REPOSITORY = "https://github.com/compact-vision/compact-vision"


def repository_url() -> str:
    """Return the address of the book's repository, without a trailing slash."""
    return REPOSITORY
