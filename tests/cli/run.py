#!/usr/bin/env python3
"""Runs the stories of tests/cli/*.cli against a cluster of three real nodes.

    $ COMMAND      run by bash in a temporary folder; kvctl and ballastd are on the PATH
    LINE           a line of its stdout; '...' in it stands for anything, alone for any lines
    ! LINE         a line of its stderr, likewise
    ? CODE         its exit code; 0 if not said
    # ...          a comment

$DATA, $DIR and $PORT are the test data, the temporary folder and the first node's port. Python
finds arrays.py, which makes and compares arrays.
"""
import argparse
import os
import pathlib
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile

COMMAND_SECONDS_MAX = 60
HERE = pathlib.Path(__file__).resolve().parent


def free_base_port() -> int:
    while True:
        base = random.randrange(20000, 31990)
        held = []
        try:
            for port in range(base, base + 5):
                held.append(socket.socket())
                held[-1].bind(("127.0.0.1", port))
            return base
        except OSError:
            continue
        finally:
            for one in held:
                one.close()


class Step:
    def __init__(self, command: str, line: int):
        self.command, self.line = command, line
        self.stdout, self.stderr, self.code = [], [], 0


def parse(path: pathlib.Path) -> list[Step]:
    steps = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("$ "):
            steps.append(Step(line[2:], number))
        elif not line or line.startswith("#"):
            continue
        elif not steps:
            raise ValueError(f"{path}:{number}: a line before the first command")
        elif line.startswith("? "):
            steps[-1].code = int(line[2:])
        elif line.startswith("! "):
            steps[-1].stderr.append(line[2:])
        else:
            steps[-1].stdout.append(line)
    return steps


def matches(expected: list[str], text: str) -> bool:
    pattern = ""
    for line in expected:
        if line == "...":
            pattern += r"(.*\n)*"
        else:
            pattern += "[^\n]*".join(re.escape(part) for part in line.split("...")) + r" *\n"
    # Blank lines separate for the eye alone.
    lines = [line for line in text.splitlines() if line.strip()]
    return re.fullmatch(pattern, "".join(line + "\n" for line in lines)) is not None


def run_story(path: pathlib.Path, environment: dict) -> list[str]:
    for step in parse(path):
        ran = subprocess.run(["bash", "-c", step.command], cwd=environment["DIR"], text=True,
                             env=environment, capture_output=True, timeout=COMMAND_SECONDS_MAX,
                             stdin=subprocess.DEVNULL, check=False)
        where = f"{path.name}:{step.line}: $ {step.command}"
        if ran.returncode != step.code:
            return [f"{where}\n  exit code {ran.returncode}, expected {step.code}\n"
                    f"--- stdout\n{ran.stdout}--- stderr\n{ran.stderr}"]
        for name, expected, actual in (("stdout", step.stdout, ran.stdout),
                                       ("stderr", step.stderr, ran.stderr)):
            if not matches(expected, actual):
                return [f"{where}\n  {name} differs\n--- expected\n" + "\n".join(expected) +
                        f"\n--- actual\n{actual}"]
    return []


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kvctl", required=True)
    parser.add_argument("--ballastd", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("stories", nargs="*")
    arguments = parser.parse_args()

    folder = tempfile.mkdtemp(prefix="ballast-cli-")
    port = free_base_port()
    path = ":".join([os.path.dirname(arguments.kvctl), os.path.dirname(arguments.ballastd),
                     os.environ["PATH"]])
    environment = dict(os.environ, PATH=path, PYTHONPATH=str(HERE),
                       PYTHONDONTWRITEBYTECODE="1", DIR=folder, DATA=arguments.data, PORT=str(port),
                       BALLAST_ENDPOINTS=f"127.0.0.1:{port}", BALLASTD=arguments.ballastd)
    stories = [pathlib.Path(story) for story in arguments.stories]
    stories = stories or sorted(HERE.glob("*.cli"))
    failures = []
    try:
        subprocess.run([arguments.kvctl, "local", "up", "--nodes", "3", "--dir", folder + "/cluster",
                        "--base-port", str(port), "--segment-mib", "16"],
                       env=environment, check=True, stdout=subprocess.DEVNULL)
        for story in stories:
            failed = run_story(story, environment)
            print(f"{'FAILED' if failed else 'ok':6} {story.name}")
            failures += failed
    finally:
        subprocess.run([arguments.kvctl, "local", "down", "--dir", folder + "/cluster"],
                       env=environment, check=False, stdout=subprocess.DEVNULL)
        shutil.rmtree(folder)
    print("\n\n".join(failures))
    print(f"{len(stories) - len(failures)} passed, {len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
