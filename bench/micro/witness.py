"""A second witness for the peers' errors: the numpy code of the package gguf, which shares nothing
with codec_bench. It quantizes what it can (Q4_0, Q8_0); where it can only decode, ggml quantizes."""
import ctypes
import json
import math
import pathlib
import struct

import gguf
import numpy as np

ROW_VALUES = 256
TENSOR_VALUES_MIN = 4096
TOLERANCE_DB = 0.01


def tensors(path: str):
    """The values that codec_bench measures: F32, rank 2 or more, whole rows."""
    data = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name == "__metadata__" or entry["dtype"] != "F32" or len(entry["shape"]) < 2:
            continue
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data, np.float32, (end - begin) // 4, 8 + length + begin)
        if values.size >= TENSOR_VALUES_MIN:
            yield values[: values.size // ROW_VALUES * ROW_VALUES].reshape(-1, ROW_VALUES)


class Ggml:
    def __init__(self, library: pathlib.Path):
        self.quantize_chunk = ctypes.CDLL(str(library)).ggml_quantize_chunk
        self.quantize_chunk.restype = ctypes.c_size_t
        self.quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p,
                                        ctypes.c_int64, ctypes.c_int64, ctypes.c_int64,
                                        ctypes.c_void_p]

    def quantize(self, values: np.ndarray, kind: gguf.GGMLQuantizationType) -> np.ndarray:
        block_values, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        values = np.ascontiguousarray(values)
        out = np.empty((values.shape[0], ROW_VALUES // block_values * block_bytes), np.uint8)
        self.quantize_chunk(int(kind), values.ctypes.data, out.ctypes.data, 0, values.shape[0],
                            ROW_VALUES, None)
        return out


def sqnr_db(path: str, kind: gguf.GGMLQuantizationType, ggml: Ggml) -> float:
    signal = noise = 0.0
    for values in tensors(path):
        try:
            encoded = gguf.quants.quantize(values, kind)
        except NotImplementedError:
            encoded = ggml.quantize(values, kind)
        exact = values.astype(np.float64)
        signal += np.square(exact).sum()
        noise += np.square(exact - gguf.quants.dequantize(encoded, kind)).sum()
    return 10 * math.log10(signal / noise)


def compare(run: dict, files: list[str], library: pathlib.Path) -> list[dict]:
    ggml = Ggml(library)
    rows = []
    for path in files:
        name = pathlib.Path(path).stem
        for row in run["quality"]:
            if row["set"] != name or row["owner"] != "peer":
                continue
            second = sqnr_db(path, gguf.GGMLQuantizationType[row["method"]], ggml)
            rows.append({"set": name, "method": row["method"], "ggml_db": row["sqnr_db"],
                         "gguf_db": second,
                         "agrees": abs(second - row["sqnr_db"]) <= TOLERANCE_DB})
    return rows
