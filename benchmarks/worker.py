"""One library, one workload, one process; measures when a line comes in, and sleeps otherwise.

    python worker.py LIBRARY WORKLOAD THREADS

Each line on standard input is a number of seconds: the worker runs steps for about that long and answers with a line of
JSON. So two libraries can take turns, and each has its memory and its threads to itself.
"""

import importlib
import json
import resource
import sys
import time
from itertools import repeat

from workloads import WORKLOADS


def steps_per_second(step, seconds):
    """Steps per second, from steps enough to fill about `seconds`."""
    count, elapsed = 1, 0.0
    while True:
        start = time.perf_counter()
        for _ in repeat(None, count):
            step()
        elapsed = time.perf_counter() - start
        if elapsed >= 0.5 * seconds:
            return count / elapsed
        count = max(count + 1, int(count * min(10.0, 1.1 * seconds / max(elapsed, 1e-9))))


def main():
    library, workload, threads = sys.argv[1:]
    torch = importlib.import_module(library)
    if int(threads):
        torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    step = WORKLOADS[workload](torch)
    print(json.dumps({"version": torch.__version__}), flush=True)
    for line in sys.stdin:
        seconds = 1 / steps_per_second(step, float(line))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "peak_mib": peak}), flush=True)


if __name__ == "__main__":
    main()
