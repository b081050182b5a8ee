"""What can keep a package from being built."""


class PackageError(Exception):
    """Raised when there is no package that may be deployed; the text says what is wrong and what to do."""
