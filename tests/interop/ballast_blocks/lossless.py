"""docs/formats/lossless.md: all bits of the values, perhaps as differences to a base."""
import hashlib

import numpy as np

from .dtypes import BF16, F16, F32
from .rans import read_symbols
from .reader import chunks_by_table, joined

_VALUES_MAX = {F32: 262144, F16: 655360, BF16: 786432}
_STORED, _CONSTANT, _EXPONENTS, _UNCHANGED, _DIFFERENCES = range(5)
_ESCAPE = 31
_REST_OMITTED = 1


def _lanes(n):
    return 16 if n < 4096 else 64 if n < 16384 else 128


def _f16_exponents(reader, n):
    flags = reader.number("u1", "flags")
    if flags:
        raise ValueError(f"flags {flags}")
    fine = reader.array("u1", n, "fine").astype(np.uint16)
    rows = reader.array("u1", -(-n // 256) * 96, "rest").reshape(-1, 3, 32).astype(np.uint16)
    a, b, c = rows[:, 0], rows[:, 1], rows[:, 2]
    t = np.stack([a & 7, a >> 3 & 7, b & 7, b >> 3 & 7, c & 7, c >> 3 & 7,
                  a >> 6 | (c >> 6 & 1) << 2, b >> 6 | (c >> 7) << 2], axis=1).reshape(-1)[:n]
    x = read_symbols(reader, n, _lanes(n)).astype(np.uint16)
    return (fine & 1) << 15 | x << 10 | t << 7 | fine >> 1


def _ranked_exponents(reader, n, dtype):
    flags, ranks = reader.number("u1", "flags"), reader.number("u1", "ranks")
    if flags > (_REST_OMITTED if dtype is F32 else 0) or ranks > 31:
        raise ValueError(f"flags {flags} and {ranks} ranks")
    exponents = np.zeros(_ESCAPE + 1, np.uint32)
    exponents[:ranks] = reader.array("u1", ranks, "exponents")
    escapes = reader.number("<u4", "number of escaped exponents")
    fine = reader.array("u1", n, "fine").astype(np.uint32)
    has_rest = dtype is F32 and not flags & _REST_OMITTED
    rest = reader.array("<u2", n, "rest") if has_rest else np.uint32(0)
    escaped = reader.array("u1", escapes, "escaped exponents")
    symbols = read_symbols(reader, n, _lanes(n))
    escaping = np.flatnonzero(symbols == _ESCAPE)
    if len(escaping) != escapes:
        raise ValueError(f"{escapes} exponents for {len(escaping)} escapes")
    x = exponents[symbols]
    x[escaping] = escaped
    upper = (fine & 1) << 15 | x << 7 | fine >> 1
    return upper << 16 | rest if dtype is F32 else upper.astype(np.uint16)


def _read_numbers(data, widths):
    """Numbers of these many bits, which lie one behind the other."""
    ends = np.cumsum(widths)
    total = int(ends[-1])
    if len(data) != -(-total // 8):
        raise ValueError(f"{len(data)} bytes for {total} bits")
    # 32 more, so that each number can be looked at as if it had all 32.
    bits = np.append(np.unpackbits(data, bitorder="little"), np.zeros(32, np.uint8))
    numbers = np.zeros(len(widths), np.uint64)
    for bit in range(32):
        numbers |= np.where(bit < widths, bits[ends - widths + bit], 0).astype(np.uint64) << bit
    return numbers


def _order(bits, highest):
    return np.where(bits & highest, bits ^ (highest - 1), bits)


def _differences(reader, n, dtype, base):
    width = 8 * dtype.size
    classes = reader.number("u1", "classes")
    extra = reader.array("u1", classes, "classes").astype(np.int64)
    if not 1 <= classes <= 32 or extra.max() > width:
        raise ValueError(f"{classes} classes of {extra} bits")
    data = reader.array("u1", reader.number("<u4", "number of bytes of bits"), "bits")
    # A symbol without a class adds no bits to a start of 0.
    widths, starts = np.zeros(32, np.int64), np.zeros(32, np.uint64)
    widths[:classes] = extra
    sizes = np.uint64(1) << extra.astype(np.uint64)
    starts[1:classes] = np.cumsum(sizes)[:-1] & 0xffffffff
    symbols = read_symbols(reader, n, _lanes(n))
    z = starts[symbols] + _read_numbers(data, widths[symbols]) & 2**width - 1
    # Unsigned numbers of the dtype's width wrap around as the format wants it.
    z, p, highest = z.astype(dtype.bits), base.astype(dtype.bits), dtype.bits.type(2**(width - 1))
    step = np.where(z & 1, ~(z >> 1), z >> 1)
    return _order(_order(p, highest) + step, highest)


def _chunk(reader, n, dtype, base):
    mode = reader.number("u1", "mode")
    if mode == _STORED:
        bits = reader.array(dtype.bits, n, "values")
    elif mode == _CONSTANT:
        bits = np.repeat(reader.array(dtype.bits, 1, "value"), n)
    elif mode == _EXPONENTS:
        bits = _f16_exponents(reader, n) if dtype is F16 else _ranked_exponents(reader, n, dtype)
    elif mode == _UNCHANGED and base is not None:
        bits = base
    elif mode == _DIFFERENCES and base is not None:
        bits = _differences(reader, n, dtype, base)
    else:
        raise ValueError(f"chunk of mode {mode}")
    reader.end()
    return bits


def _checked_base(header, base):
    """The base's bits, or None if the block has none."""
    if header.base_sha256 is None:
        return None
    if base is None:
        raise ValueError("this block is a difference: its base is needed")
    if len(base) != header.values * header.dtype.size:
        raise ValueError(f"a base of {len(base)} bytes for {header.values} values")
    if hashlib.sha256(base).digest() != header.base_sha256:
        raise ValueError("this is not the block's base")
    return np.frombuffer(base, header.dtype.bits)


def decode(header, reader, base):
    if header.values > _VALUES_MAX[header.dtype]:
        raise ValueError(f"{header.values} values")
    base = _checked_base(header, base)
    parts, first = [], 0
    for n, chunk in chunks_by_table(header.values, reader):
        part_of_base = None if base is None else base[first:first + n]
        parts.append(_chunk(chunk, n, header.dtype, part_of_base))
        first += n
    return header.dtype, joined(parts, header.dtype.bits)
