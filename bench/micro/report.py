"""Runs codec_bench with ggml as a peer, sets the rows against the targets, asks a second witness
for the peers' errors, and draws the figure. bench/micro/report prepares what this needs."""
import argparse
import json
import pathlib
import subprocess
import sys

import libggml

import figure
import targets
import witness

PLACES = ("lib64", "lib")
LIBRARY = "libggml-base.so"
PASSED_ON = ("--codec", "--kernel", "--speed-set", "--rounds", "--core")


def ggml_directory() -> pathlib.Path:
    """Where the package keeps its shared objects."""
    package = pathlib.Path(libggml.__file__).parent
    for place in PLACES:
        if (package / place / LIBRARY).exists():
            return package / place
    sys.exit(f"report: the package libggml-python has no {LIBRARY}")


def print_rows(title: str, head: list[str], rows: list[list[str]]) -> None:
    if not rows:
        return
    print(f"\n{title}")
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, ["-" * width for width in widths], *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def decibels(value) -> str:
    return "exact" if value is None else f"{value:.2f}"


def print_report(run: dict) -> None:
    judge = targets.Judge(run)
    print(f"core {run['core']}, medians of {run['rounds']} rounds; target: yes or no, where there is one")
    for name, rows in (("error", run["quality"]), ("pruned, against the pruned values", run["pruned"])):
        pruned = rows is run["pruned"]
        print_rows(name, ["set", "method", "", "bits", "smaller", "dB", "max error", "target"],
                   [[row["set"], row["method"], row["owner"], f"{row['bits']:.4f}",
                     f"{32 / row['bits']:.2f}x", decibels(row["sqnr_db"]), f"{row['max_abs']:.4g}",
                     judge.pruned(row) if pruned else judge.quality(row)] for row in rows])
    print_rows("second witness: the same peers with the numpy of gguf",
               ["set", "method", "dB", "gguf dB", "agree"],
               [[row["set"], row["method"], f"{row['ggml_db']:.3f}", f"{row['gguf_db']:.3f}",
                 "yes" if row["agrees"] else "NO"] for row in run["witness"]])
    print_rows("lossless", ["set", "method", "", "source", "of the size", "target"],
               [[row["set"], row["method"], row["owner"], row["source"], f"{row['ratio']:.4f}",
                 judge.size(row)] for row in run["lossless"]])
    print_rows("speed: GB/s of the source's side, and as a multiple of what took turns with it",
               ["set", "method", "", "kernel", "what", "from", "to", "GB/s", "memcpy", "memset", "zstd",
                "target"],
               [[row["set"], row["method"], row["owner"], row["kernel"], row["what"], row["source"],
                 "" if row["what"] == "encode" else row["as"], f"{row['gb_per_second']:.2f}",
                 f"{row['to_memcpy']:.3f}", f"{row['to_memset']:.3f}",
                 "" if row["to_split_zstd"] is None else f"{row['to_split_zstd']:.3f}",
                 judge.speed(row)] for row in run["speed"]])
    print(f"\ntargets: {judge.met} hold, {judge.missed} do not")


def main() -> int:
    parser = argparse.ArgumentParser(prog="report", description="The codecs beside their peers.")
    parser.add_argument("files", nargs="*", metavar="FILE", help="safetensors files")
    parser.add_argument("--json", type=pathlib.Path, help="default: build/bench/codecs.json")
    parser.add_argument("--png", type=pathlib.Path, help="default: build/bench/codecs.png")
    parser.add_argument("--bench", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    for name in PASSED_ON:
        parser.add_argument(name, action="append", default=[], metavar="X", help="as in codec_bench")
    parser.add_argument("--no-speed", action="store_true", help="sizes and errors alone")
    options = parser.parse_intermixed_args()
    passed_on = [f"{name}={value}" for name in PASSED_ON
                 for value in getattr(options, name.strip("-").replace("-", "_"))]
    if options.no_speed:
        passed_on.append("--no-speed")
    files = options.files or [str(options.root / "tests/data/silero_vad_16k.safetensors")]
    out = options.json or options.root / "build/bench/codecs.json"
    png = options.png or options.root / "build/bench/codecs.png"

    library = ggml_directory()
    command = [str(options.bench), *passed_on, "--ggml", str(library), "--json", str(out), *files]
    # The table of codec_bench itself says nothing that the one below does not.
    out.unlink(missing_ok=True)
    bench = subprocess.run(command, stdout=subprocess.DEVNULL)
    if not out.exists():
        print("report: codec_bench measured nothing; see above", file=sys.stderr)
        return 1
    run = json.loads(out.read_text(encoding="utf-8"))
    run["witness"] = witness.compare(run, files, library / LIBRARY)
    out.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    print_report(run)
    figure.draw(run, png)
    print(f"written: {out}, {png}")
    # codec_bench also ends with an error where an encoder misreports, after it has written all.
    return 0 if bench.returncode == 0 and all(row["agrees"] for row in run["witness"]) else 1


if __name__ == "__main__":
    sys.exit(main())
