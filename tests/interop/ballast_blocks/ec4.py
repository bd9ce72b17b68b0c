"""docs/formats/ec4.md: indexes of a uniform step, with or without a trellis, scales and outliers."""
import numpy as np

from .dtypes import F32, convert
from .rans import read_symbols
from .reader import chunks_by_table, joined
from .scaled import log_scales

_VALUES_MAX = 2097152
_PIECE = 4096


def _read_outliers(reader, n, count, dtype):
    """Their positions in the chunk, and their values as f32."""
    if count == 0:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    pieces = -(-n // _PIECE)
    counts = reader.array("<u2", pieces, "outliers of the pieces")
    if counts.sum() != count:
        raise ValueError(f"the pieces have {counts.sum()} outliers, the chunk {count}")
    positions = reader.array("<u2", count, "positions of the outliers").astype(np.int64)
    if positions.max() >= _PIECE:
        raise ValueError("an outlier lies outside of its piece")
    positions += np.repeat(np.arange(pieces) * _PIECE, counts)
    if positions.max() >= n:
        raise ValueError("an outlier lies behind the last value")
    values = convert(reader.array(dtype.bits, count, "outliers"), dtype, F32)
    return positions, values.view(np.float32)


def _trellis_multiples(indexes, lanes):
    """The multiples of the step that a walk through each lane's trellis makes of the indexes."""
    rows = np.zeros((-(-len(indexes) // lanes), lanes), np.int32)
    rows.reshape(-1)[:len(indexes)] = indexes
    multiples = np.empty_like(rows)
    state = np.zeros(lanes, np.int32)
    for k, m in zip(rows, multiples):
        t0, t1, t2 = state & 1, state >> 1 & 1, state >> 2
        m[:] = 2 * k - np.sign(k) * t0
        state = (t0 ^ t1) + 2 * (t2 ^ (k & 1)) + 4 * t0
    return multiples.reshape(-1)[:len(indexes)]


def _read_multiples(reader, n, lanes, trellis):
    indexes = read_symbols(reader, n, lanes).astype(np.int32) - 15
    return _trellis_multiples(indexes, lanes) if trellis else indexes


def _read_scales(reader, n, group):
    """A factor for each value."""
    if group == 0:
        return np.float32(1)
    groups = -(-n // group)
    scales = reader.array("u1", groups + groups % 2, "scales")[:groups]
    return np.repeat(log_scales(np.float32(1), scales, 255), group)[:n]


def decode_chunk(reader, n, step, dtype, trellis, group=0):
    head = reader.number("<u4", "chunk head")
    vectors, outliers = head % 256, head // 256
    if vectors not in (0, 1, 2, 4, 8):
        raise ValueError(f"chunk head with {vectors} vectors")
    scales = _read_scales(reader, n, group)
    positions, replacements = _read_outliers(reader, n, outliers, dtype)
    if vectors == 0:
        values = np.zeros(n, np.float32)
    else:
        values = step * _read_multiples(reader, n, 16 * vectors, trellis).astype(np.float32)
    values *= scales
    values[positions] = replacements
    reader.end()
    return values


def decode(header, reader):
    if header.values > _VALUES_MAX:
        raise ValueError(f"{header.values} values")
    parts = [decode_chunk(chunk, n, header.base, header.dtype, header.codec == "ec4t", header.group)
             for n, chunk in chunks_by_table(header.values, reader)]
    return F32, joined(parts, np.float32).view(np.uint32)
