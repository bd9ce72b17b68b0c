#!/usr/bin/env python3
"""Holds the layer rule of docs/ARCHITECTURE.md: who may include whom, and what a room must not know.

Prints each violation as file:line and ends with 1 if there is any.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

# The longest prefix decides. A room may always include itself.
MAY_INCLUDE = {
    "proto/base": [],
    "proto/wire": ["proto/base"],
    "proto/files": ["proto/base"],
    "proto/backup": ["proto/base", "proto/files", "proto/*.pb.h"],
    "proto/net": ["proto/base", "proto/wire", "proto/*.pb.h"],
    "quant": ["proto/base"],
    "storage": ["proto/base", "proto/files", "proto/*.pb.h"],
    "server/raft": ["proto/base"],
    "server": ["proto", "storage", "server"],
    "client": ["proto", "quant"],
    "examples": ["client", "proto/base", "quant"],
    "bench": ["client", "quant", "proto", "storage", "server"],
    "tests": ["client", "quant", "proto", "storage", "server", "bench"],
}

# Third-party and standard headers that belong to some rooms alone.
ONLY_IN = {
    r"rocksdb/": ["storage", "tests", "bench"],
    r"liburing": ["storage", "tests"],
    r"boost/asio": ["proto/net"],
    r"spdlog/": ["server", "tests"],
    r"zstd": ["bench"],
    r"(thread|mutex|condition_variable|future|chrono|random|fstream|filesystem|iostream)$": {
        "not": ["server/raft", "quant", "proto/wire"]
    },
}

INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]')


def room_of(path: str) -> str | None:
    rooms = [room for room in MAY_INCLUDE if path == room or path.startswith(room + "/")]
    return max(rooms, key=len) if rooms else None


def allowed(room: str, header: str) -> bool:
    target = room_of(header)
    if target == room:
        return True
    for entry in MAY_INCLUDE[room]:
        if entry == "proto/*.pb.h" and header.startswith("proto/") and header.endswith(".pb.h"):
            return True
        if header == entry or header.startswith(entry + "/"):
            # "server" must not be a way around the rule of "server/raft", and so on.
            return True
    return False


def check_third_party(room: str, header: str) -> str | None:
    for pattern, rule in ONLY_IN.items():
        if not re.match(pattern, header):
            continue
        if isinstance(rule, dict):
            if room in rule["not"]:
                return f"{room} must stay free of <{header}>"
        elif not any(room == r or room.startswith(r + "/") for r in rule):
            return f"<{header}> belongs to {', '.join(rule)} alone"
    return None


def check(path: pathlib.Path) -> list[str]:
    relative = path.relative_to(ROOT).as_posix()
    room = room_of(relative)
    if room is None:
        return [f"{relative}:1: lies in no room"]
    problems = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        quoted, header = match.group(1) == '"', match.group(2)
        problem = None
        if quoted and not allowed(room, header):
            problem = f"{room} must not include {header}"
        elif not quoted:
            problem = check_third_party(room, header)
        if problem:
            problems.append(f"{relative}:{number}: {problem}")
    return problems


def main() -> int:
    problems = []
    files = 0
    for top in sorted({room.split("/")[0] for room in MAY_INCLUDE}):
        for path in sorted((ROOT / top).rglob("*")):
            if path.suffix in (".h", ".cc"):
                files += 1
                problems += check(path)
    print("\n".join(problems) if problems else f"{files} files keep the layer rule")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
