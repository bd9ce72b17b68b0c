#!/usr/bin/env python3
"""Runs seeds of the simulator: those that failed once, a fixed set, and a fresh one.

The fresh set begins at a seed from the clock, which is printed. A seed that fails prints the command
that runs it again; add it to regressions.txt when the bug is fixed.
"""
import argparse
import os
import pathlib
import subprocess
import sys
import time


def regressions(path):
    lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    return [line.split() for line in lines if line and not line.startswith("#")]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sim", required=True)
    parser.add_argument("--regressions", required=True)
    parser.add_argument("--lite", type=int, default=int(os.environ.get("BALLAST_SIM_LITE", 500)))
    parser.add_argument("--swarm", type=int, default=int(os.environ.get("BALLAST_SIM_SWARM", 50)))
    arguments = parser.parse_args()
    fresh = int(time.time())
    print(f"the fresh seeds begin at {fresh}", flush=True)
    runs = [["--profile", profile, "--seed", seed] for profile, seed, *_ in
            regressions(arguments.regressions)]
    for profile, count in (("lite", arguments.lite), ("swarm", arguments.swarm)):
        half = max(1, count // 2)
        for first in (1, fresh):
            runs.append(["--profile", profile, "--seed", str(first), "--count", str(half)])
    # Each run is one thread; two of them at a time.
    failed = 0
    running = []
    while runs or running:
        while runs and len(running) < (os.cpu_count() or 1):
            running.append(subprocess.Popen([arguments.sim, *runs.pop(0)]))
        failed += running.pop(0).wait() != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
