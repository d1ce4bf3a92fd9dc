"""Command line: serve."""

import argparse
import sqlite3
import sys
from types import FrameType

from sample_app.settings import Settings, WrongSetting, describe, load


def main(arguments: list[str] | None = None) -> int:
    """Serve until stopped; the exit status is 2 for a wrong setting."""
    argparse.ArgumentParser(
        prog="sample-app",
        description="A stand-in for an app of the suite: subscribes itself, verifies and shows what it is pushed.",
        epilog="Settings, read from the environment:\n" + "\n".join(describe()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args(arguments)
    try:
        settings = load()
    except WrongSetting as error:
        return _fail(f"wrong setting: {error}")
    return _serve(settings)


def _serve(settings: Settings) -> int:
    import uvicorn  # noqa: PLC0415 (--help answers faster without it)

    from sample_app import logs  # noqa: PLC0415 (the same)
    from sample_app.app import create_app  # noqa: PLC0415 (the same)
    from sample_app.changes import Changes  # noqa: PLC0415 (the same)

    changes = Changes()

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            changes.close()  # open pages hold a stream each, and the server waits for them
            super().handle_exit(sig, frame)

    logs.configure(settings.log)
    try:
        app = create_app(settings, changes)
    except (OSError, sqlite3.Error) as error:
        return _fail(f"DATA_DIR: {settings.data_dir} cannot be used: {error}")
    server = Server(
        uvicorn.Config(
            app,
            host=settings.http.host,
            port=settings.http.port,
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=3,
        )
    )
    server.run()
    return 0 if server.started else 1


def _fail(message: str) -> int:
    print(f"sample-app: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
