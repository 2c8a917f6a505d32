"""Why something failed, in a line."""


def first_cause(error: BaseException) -> str:
    """The first line of what went wrong first: giving up on it may have raised errors of its own."""
    while error.__context__ is not None:
        error = error.__context__
    return (str(error).strip() or type(error).__name__).splitlines()[0]
