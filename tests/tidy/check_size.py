#!/usr/bin/env python3
"""Functions fit a screen and files do one thing: at most 70 lines a function, 600 a file.

A function's body is found by clang-format's layout: it starts on a line that ends in '{' at the
left margin's depth and ends with the first '}' at the same indentation. Prints violations, ends with 1.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOPS = ["proto", "quant", "storage", "server", "client", "examples", "bench", "tests"]
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 600

# A definition, not a type, a namespace or an initializer.
OPENS = re.compile(r"\)\s*(const\s*)?(noexcept\s*)?(override\s*)?(->\s*[\w:<>,&\* ]+\s*)?(:.*)?\{$")
NOT_A_FUNCTION = re.compile(r"^\s*(if|for|while|switch|namespace|class|struct|enum|union|else|do)\b")


def functions(lines: list[str]):
    start, indent, head = None, "", ""
    for number, line in enumerate(lines, 1):
        if start is None:
            depth = len(line) - len(line.lstrip())
            if depth <= 2 and OPENS.search(line) and not NOT_A_FUNCTION.match(line):
                start, indent, head = number, line[:depth], line.strip()
        elif line.startswith(indent + "}") or (indent and re.match(r"\s{2,6}\}\s*$", line) and
                                               len(line) - len(line.lstrip()) < len(indent)):
            yield start, number, head
            start = None


def main() -> int:
    problems, files = [], 0
    for top in TOPS:
        for path in sorted((ROOT / top).rglob("*")):
            if path.suffix not in (".h", ".cc"):
                continue
            files += 1
            lines = path.read_text(encoding="utf-8").splitlines()
            name = path.relative_to(ROOT).as_posix()
            if len(lines) > FILE_LINES_MAX:
                problems.append(f"{name}: {len(lines)} lines; the limit is {FILE_LINES_MAX}")
            for start, end, head in functions(lines):
                if end - start + 1 > FUNCTION_LINES_MAX:
                    problems.append(f"{name}:{start}: {end - start + 1} lines: {head}")
    print("\n".join(problems) if problems else f"{files} files have small functions")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
