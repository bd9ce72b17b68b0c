"""Frequencies, states, words and symbols of docs/formats/ec4.md."""
import numpy as np

SYMBOLS = 32
SLOTS = 4096
_BUCKET = SLOTS // SYMBOLS
_STATE_MIN = 65536
_CODE_MAX = 143
_ZEROS_MAX = 7
_FREQUENCY_BYTES_MAX = 72  # 5 bits and 31 numbers of at most 16 and a few more bits
_CLOSING_ROWS = 3


class _Bits:
    """Bits from the lowest of the first byte upwards; behind the end, zeros."""

    def __init__(self, data):
        self._bits = np.unpackbits(data, bitorder="little").tolist()
        self.used = 0

    def take(self, count):
        bits = (self._bits + [0] * (self.used + count))[self.used:self.used + count]
        self.used += count
        return sum(bit << i for i, bit in enumerate(bits))

    def difference(self):
        zeros = 0
        while self.take(1) == 0:
            zeros += 1
            if zeros > _ZEROS_MAX:
                raise ValueError("more zeros than a number has")
        v = (1 << (zeros + 1)) + self.take(zeros + 1) - 2
        return v // 2 if v % 2 == 0 else -((v + 1) // 2)


def read_frequencies(reader):
    bits = _Bits(reader.ahead(_FREQUENCY_BYTES_MAX))
    rest = bits.take(5)
    before, last = 0, 0
    frequencies = np.zeros(SYMBOLS, int)
    for symbol in range(SYMBOLS):
        code = min(max(2 * last - before, 0), _CODE_MAX)
        if symbol != rest:
            code += bits.difference()
            if not 0 <= code <= _CODE_MAX:
                raise ValueError(f"frequency code {code}")
            frequencies[symbol] = code if code < 32 else (16 + code % 16) << (code // 16 - 1)
        before, last = last, code
    frequencies[rest] = SLOTS - frequencies.sum()
    if not 0 < frequencies[rest] < SLOTS:
        raise ValueError(f"the frequencies leave {frequencies[rest]}")
    reader.part((bits.used + 15) // 16 * 2, "frequencies")
    return frequencies


def _buckets(frequencies):
    """How many slots of each bucket are its own symbol's, and whose the others are."""
    left = frequencies.tolist()
    limit, alias = [_BUCKET] * SYMBOLS, list(range(SYMBOLS))
    small = [s for s in range(SYMBOLS) if left[s] < _BUCKET]
    large = [s for s in range(SYMBOLS) if left[s] >= _BUCKET]
    while small:
        bucket, giver = small.pop(), large[-1]
        limit[bucket], alias[bucket] = left[bucket], giver
        left[giver] -= _BUCKET - limit[bucket]
        if left[giver] < _BUCKET:
            small.append(large.pop())
    return limit, alias


def slot_table(frequencies):
    """For each slot the symbol that owns it, and its position among the symbol's slots."""
    limit, alias = _buckets(frequencies)
    owner, position = np.empty(SLOTS, np.uint8), np.empty(SLOTS, np.int64)
    counted = list(limit)
    for bucket in range(SYMBOLS):
        first, end = bucket * _BUCKET, (bucket + 1) * _BUCKET
        middle, other = first + limit[bucket], alias[bucket]
        owner[first:middle], owner[middle:end] = bucket, other
        position[first:middle] = np.arange(middle - first)
        position[middle:end] = counted[other] + np.arange(end - middle)
        counted[other] += end - middle
    return owner, position


def read_symbols(reader, count, lanes):
    """`count` symbols from 0 to 31, to the end of the reader."""
    frequencies = read_frequencies(reader)
    owner, position = slot_table(frequencies)
    states = reader.array("<u4", lanes, "states").astype(np.int64)
    if states.min() < _STATE_MIN:
        raise ValueError("a state is less than 65,536")
    words = reader.array("<u2", reader.left() // 2, "words")
    reader.end()
    rows = np.empty((-(-count // lanes), lanes), np.uint8)
    taken = 0
    closing = min(len(rows), _CLOSING_ROWS)
    for row in rows[:len(rows) - closing]:
        slots = states % SLOTS
        row[:] = owner[slots]
        states = frequencies[row] * (states // SLOTS) + position[slots]
        short = np.flatnonzero(states < _STATE_MIN)
        if taken + len(short) > len(words):
            raise ValueError("too few words")
        states[short] = states[short] * _STATE_MIN + words[taken:taken + len(short)]
        taken += len(short)
    states -= _STATE_MIN
    for row in rows[len(rows) - closing:]:
        row[:] = states % SYMBOLS
        states //= SYMBOLS
    if taken != len(words) or np.any(states != 0):
        raise ValueError("the words don't end with the symbols")
    return rows.reshape(-1)[:count]
