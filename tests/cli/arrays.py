"""Arrays for the stories: made, written, read and compared without a library.

    $ python3 -c "from arrays import *; write('w.npy', (2, 3), [1, 2, 3, 4, 5, 6])"
"""
import array
import ast
import json
import math
import pathlib
import random


def noise(count: int, seed: int = 1) -> list[float]:
    """Values as weights have them, the same every time."""
    source = random.Random(seed)
    return [source.gauss(0, 0.02) for _ in range(count)]


def write(path: str, shape: tuple, values: list[float]) -> None:
    """Writes an F32 .npy file."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (117 - len(header)) + b"\n"
    pathlib.Path(path).write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") +
                                   header + array.array("f", values).tobytes())


def read(path: str) -> list[float]:
    """The values of an F32 .npy file."""
    data = pathlib.Path(path).read_bytes()
    start = 10 + int.from_bytes(data[8:10], "little")
    assert ast.literal_eval(data[10:start].decode())["descr"] == "<f4", path
    return array.array("f", data[start:]).tolist()


def write_tensors(path: str, tensors: dict[str, tuple[tuple, list[float]]]) -> None:
    """Writes F32 tensors, each a shape and its values, to a safetensors file."""
    header, data = {}, b""
    for name, (shape, values) in tensors.items():
        raw = array.array("f", values).tobytes()
        header[name] = {"dtype": "F32", "shape": list(shape),
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    pathlib.Path(path).write_bytes(len(text).to_bytes(8, "little") + text + data)


def _open_tensors(path: str) -> tuple[dict, bytes]:
    data = pathlib.Path(path).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:start]), data[start:]


def read_tensors(path: str) -> dict[str, list[float]]:
    """The values of the F32 tensors of a safetensors file."""
    header, data = _open_tensors(path)
    header.pop("__metadata__", None)
    assert all(tensor["dtype"] == "F32" for tensor in header.values()), path
    return {name: array.array("f", data[slice(*tensor["data_offsets"])]).tolist()
            for name, tensor in header.items()}


def metadata(path: str) -> dict[str, str]:
    return _open_tensors(path)[0].get("__metadata__", {})


def sqnr(exact: list[float], other: list[float]) -> float:
    """In dB; infinite if they are equal."""
    assert len(exact) == len(other)
    lost = sum((a - b) ** 2 for a, b in zip(exact, other))
    return 10 * math.log10(sum(a * a for a in exact) / lost) if lost else math.inf


def json_of(path: str) -> dict:
    return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
