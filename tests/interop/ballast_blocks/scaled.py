"""int4 of docs/formats/block.md and docs/formats/int8.md: codes that share a scale of 1/16 octaves."""
import numpy as np

from .dtypes import F32
from .reader import chunk_sizes, joined

UNIT = 64
_P = np.array([
    0x3f800000, 0x3f75257d, 0x3f6ac0c7, 0x3f60ccdf, 0x3f5744fd, 0x3f4e248c, 0x3f45672a, 0x3f3d08a4,
    0x3f3504f3, 0x3f2d583f, 0x3f25fed7, 0x3f1ef532, 0x3f1837f0, 0x3f11c3d3, 0x3f0b95c2, 0x3f05aac3,
], np.uint32).view(np.float32)


def log_scales(base, steps, step_of_zero):
    steps = steps.astype(np.int32)
    magnitudes = np.ldexp(base * _P[steps % 16], -(steps // 16))
    return np.where(steps == step_of_zero, np.float32(0), magnitudes)


def _products(magnitudes, factors):
    """Each group's magnitude times its factors, which are whole numbers: there is no factor -0."""
    return (magnitudes[:, None] * factors.astype(np.float32)).reshape(-1)


def int4_chunk(header, reader, n):
    units = -(-n // UNIT)
    scales = reader.array("u1", units * (UNIT // header.group), "scales")
    codes = reader.array("u1", units * (UNIT // 2), "codes").reshape(units, UNIT // 2)
    codes = np.concatenate([codes & 15, codes >> 4], axis=1)
    factors = header.codebook[codes].reshape(-1, header.group)
    factors = np.where(scales[:, None] & 128, -factors, factors)
    return _products(log_scales(header.base, scales & 127, 127), factors)[:n]


def int8_chunk(header, reader, n):
    groups = -(-n // header.group)
    scales = reader.array("u1", groups, "scales")
    codes = reader.array("i1", groups * header.group, "codes").reshape(groups, header.group)
    return _products(log_scales(header.base, scales, 255), codes)[:n]


def _decode(header, reader, chunk):
    parts = [chunk(header, reader, n) for n in chunk_sizes(header.values)]
    return F32, joined(parts, np.float32).view(np.uint32)


def decode_int4(header, reader):
    return _decode(header, reader, int4_chunk)


def decode_int8(header, reader):
    return _decode(header, reader, int8_chunk)
