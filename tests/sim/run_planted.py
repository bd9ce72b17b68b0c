#!/usr/bin/env python3
"""Measures the simulator: every planted bug must be found within a stated number of seeds.

The bugs are those of proto/base/planted.h, each a mistake that a real system made. Without a bug the
same program must find nothing.
"""
import argparse
import re
import subprocess
import sys
import time

# How many seeds of the lite profile may be needed, from seed 1 on.
SEEDS = {
    "kVoteNotDurable": 20,
    "kVoteClearedInTerm": 60,
    "kAckBeforeDurable": 20,
    "kOwnMatchBeforeDurable": 20,
    "kCommitOfOlderTermByCount": 60,
    "kNoUpToDateCheck": 60,
    "kStaleAppendTruncates": 40,
    "kReadBeforeFirstCommit": 60,
    "kReadRoundReused": 300,
    "kReadWithoutQuorum": 300,
    "kCommitBeyondMatch": 40,
    "kAppliedBeforeData": 20,
    "kSessionNotConsulted": 20,
    "kTornTailKept": 100,
    "kRotIsTornTail": 60,
    "kSecondPlaceIgnored": 100,
    "kAckAllOfMajority": 20,
    "kNoPreVote": 60,
    "kConfigurationAtCommit": 100,
    "kLateWriteCounts": 200,
    "kDiskNotChecked": 100,
    "kFreshSinceAnswer": 100,
    "kFreshBeforeApplied": 60,
    "kRowsNotFlushed": 40,
    "kUseNotCounted": 40,
    "kOldHeaderKept": 100,
    "kHalfSnapshotInstalled": 100,
    "kPlaceBeforeBytes": 300,
    "kSnapshotGap": 100,
    "kSnapshotsPlaceNotChecked": 100,
}


def bugs_of(header):
    names = re.findall(r"^  (k\w+)[ ,=]", open(header, encoding="utf-8").read(), re.MULTILINE)
    return list(enumerate(names))


def run(sim, bug, seeds):
    return subprocess.run([sim, "--bug", str(bug), "--profile", "lite", "--seed", "1", "--count",
                           str(seeds), "--once", "--first", "--progress"],
                          capture_output=True, text=True, errors="replace", check=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sim", required=True)
    parser.add_argument("--bugs", required=True)
    arguments = parser.parse_args()
    failed = []
    for number, name in bugs_of(arguments.bugs):
        begin = time.monotonic()
        seeds = 30 if number == 0 else SEEDS.get(name)
        if seeds is None:
            failed.append(f"{name}: no number of seeds is stated for it")
            continue
        result = run(arguments.sim, number, seeds)
        tried = re.findall(r"^seed (\d+)$", result.stderr, re.MULTILINE)
        found = result.returncode != 0
        why = next((line for line in (result.stdout + result.stderr).splitlines()
                    if re.match(r"seed \d+: |.*check failed", line)), "")
        if found != (number != 0):
            failed.append(f"{name}: {'found ' + why if found else f'not found in {seeds} seeds'}")
        print(f"{name:28} {'found at seed ' + tried[-1] if found else 'nothing found':20} "
              f"of {seeds:3} {time.monotonic() - begin:5.1f} s  {why[-120:]}", flush=True)
    for line in failed:
        print("FAILED", line)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
