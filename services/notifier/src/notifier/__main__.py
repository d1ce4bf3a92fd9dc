"""`python -m notifier`: serve with the settings of the environment."""

import argparse

from notifier.app import create_app
from notifier.settings import Settings
from shared import logs, web
from shared.settings import load


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(
        prog="notifier",
        description="Tells the suite's apps and customers of permission changes: signed webhooks, server-sent events.",
        epilog="Settings come from the environment; docs/configuration.md lists them.",
    )
    parser.parse_args()
    settings = load(Settings)
    logs.configure(settings.log, service="notifier")
    web.serve(create_app(settings), settings.http)


if __name__ == "__main__":
    main()
