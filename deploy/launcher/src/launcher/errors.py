"""What can go wrong while the stack starts, said so that a person knows what to do next."""


class LauncherError(Exception):
    """A failure told to the person at the terminal: one line, and a log's tail where there is one."""


class StartError(LauncherError):
    """A process ended, or did not become ready in time."""


class PortTakenError(LauncherError):
    """Somebody else listens on a port that the stack needs."""


class DownloadError(LauncherError):
    """An archive could not be fetched, or is not the one that the lock file names."""
