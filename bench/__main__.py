"""``python -m bench [NAME ...]``: run some of the benchmarks, or all."""

import argparse
import importlib

NAMES = ("projection", "delivery", "isolation", "streams", "latency", "probes", "screen")


def main() -> None:
    """Run the benchmarks that are named."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("name", nargs="*", choices=NAMES, default=list(NAMES), help="which ones [all]")
    for name in parser.parse_args().name:
        importlib.import_module(f"bench.{name}").main()


if __name__ == "__main__":
    main()
