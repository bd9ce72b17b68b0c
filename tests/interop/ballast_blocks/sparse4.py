"""docs/formats/sparse4.md: chunks of which most values are 0."""
import numpy as np

from . import ec4
from .dtypes import F32
from .header import EC4_STEPS
from .reader import chunks_by_table, joined
from .scaled import int4_chunk

_ZEROS, _BITMAP, _ENTROPY = 0, 1, 2
_VALUES_MAX = {16: 2490368, 32: 2621440, 64: 2621440}


def _bitmap_chunk(header, reader, n):
    kept = reader.number("<u4", "kept")
    bitmap = reader.array("u1", -(-n // 64) * 8, "bitmap")
    bits = np.unpackbits(bitmap, bitorder="little")
    if bits.sum() > kept:
        raise ValueError(f"{bits.sum()} bits in the bitmap for {kept} values")
    positions = np.flatnonzero(bits[:n])
    values = np.zeros(n, np.float32)
    values[positions] = int4_chunk(header, reader, kept)[:len(positions)]
    return values


def _entropy_chunk(header, reader, n):
    step = np.float32(reader.number("<f4", "step"))
    if not EC4_STEPS[0] <= step <= EC4_STEPS[1]:
        raise ValueError(f"step {step}")
    return ec4.decode_chunk(reader, n, step, header.dtype, trellis=False)


def _chunk(header, reader, n):
    mode = reader.number("<u4", "mode")
    if mode == _BITMAP:
        values = _bitmap_chunk(header, reader, n)
    elif mode == _ENTROPY:
        values = _entropy_chunk(header, reader, n)
    elif mode == _ZEROS:
        values = np.zeros(n, np.float32)
    else:
        raise ValueError(f"chunk of mode {mode}")
    reader.end()
    return values


def decode(header, reader):
    if header.values > _VALUES_MAX[header.group]:
        raise ValueError(f"{header.values} values")
    parts = [_chunk(header, chunk, n) for n, chunk in chunks_by_table(header.values, reader)]
    return F32, joined(parts, np.float32).view(np.uint32)
