"""The exceptions of servesat; their messages are written for the user."""


class ServesatError(Exception):
    """The base of every error that servesat raises on purpose; its message says what to do."""


class CatalogueError(ServesatError):
    """A model, chip or price book that is unknown, unreadable or malformed."""


class SpecError(ServesatError):
    """A spec that is unreadable or malformed; the message names the file, the key, the value and what was expected."""


class NoPlanError(ServesatError):
    """A spec without a plan where one is needed; `status` says how solving ended."""

    def __init__(self, message: str, status: str) -> None:
        super().__init__(message)
        self.status = status


class LaunchError(ServesatError):
    """A plan that its engine cannot start, or that a target does not support; the message names the rule."""


class SolverError(ServesatError):
    """An answer that failed its check: an internal error, never a result."""
