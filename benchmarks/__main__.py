"""Measure flambeau against its peers, check compiled against eager, show where a step's time goes.

python -m benchmarks [table] [--only NAME,…] [--peers NAME,…] [--python PATH] …   the table (make bench)
python -m benchmarks eager …          the same, op by op: flambeau eager against PyTorch eager, and import times
python -m benchmarks check …          20 steps compiled against 20 steps eager: losses and weights
python -m benchmarks profile NAME …   where a compiled step's time goes
python -m benchmarks summary FILE …   the README's table from results
"""

from __future__ import annotations

import argparse
import importlib
import sys

MODES = ("table", "eager", "check", "profile", "summary")


def main(arguments: list[str]) -> int:
    """Hand the arguments to the mode's own module."""
    if arguments[:1] in (["-h"], ["--help"]):
        print(__doc__)
        print("Options of a mode: python -m benchmarks MODE --help")
        return 0
    mode = arguments.pop(0) if arguments[:1] and arguments[0] in MODES else "table"
    module = importlib.import_module(f"benchmarks.{mode}")
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks {mode}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return module.main(parser, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
