"""The dtypes of docs/formats/block.md, and how values of one are read as another."""
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class DType:
    name: str
    size: int

    @property
    def bits(self):
        """What numpy calls an unsigned number of this size."""
        return np.dtype(f"<u{self.size}")


F32, F16, BF16 = DType("F32", 4), DType("F16", 2), DType("BF16", 2)
_ALL = [F32, F16, BF16, DType("F64", 8), DType("I64", 8), DType("I32", 4), DType("I16", 2),
        DType("I8", 1), DType("U8", 1), DType("BOOL", 1), DType("U64", 8), DType("U32", 4),
        DType("U16", 2), DType("F8_E4M3", 1), DType("F8_E5M2", 1)]
BY_NUMBER = dict(enumerate(_ALL, 1))
BY_NAME = {dtype.name: dtype for dtype in _ALL}
FLOATS = (F32, F16, BF16)

_F32_QUIET = np.uint32(1 << 22)


def _is_nan(bits32):
    return (bits32 & 0x7fffffff) > 0x7f800000


def _widened(bits, dtype):
    """f32 bits of F16 or BF16 values; every one of these is exact in f32."""
    if dtype is BF16:
        return bits.astype(np.uint32) << 16
    wide = bits.view(np.float16).astype(np.float32).view(np.uint32)
    return np.where(_is_nan(wide), wide | _F32_QUIET, wide)


def _narrowed(bits32, dtype):
    """Rounded to nearest, ties to even. NaN keeps its sign and the upper bits of its payload."""
    if dtype is BF16:
        rounded = (bits32.astype(np.uint64) + 0x7fff + (bits32 >> 16 & 1)) >> 16
        nan = bits32 >> 16 | 0x40
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            rounded = bits32.view(np.float32).astype(np.float16).view(np.uint16)
        nan = bits32 >> 16 & 0x8000 | 0x7e00 | bits32 >> 13 & 0x3ff
    return np.where(_is_nan(bits32), nan, rounded).astype(np.uint16)


def convert(bits, stored, wanted):
    if stored is wanted:
        return bits
    if stored not in FLOATS or wanted not in FLOATS:
        raise ValueError(f"values of {stored.name} can't be read as {wanted.name}")
    wide = bits if stored is F32 else _widened(bits, stored)
    return wide if wanted is F32 else _narrowed(wide, wanted)
