"""Frequencies, states, words and symbols of docs/formats/ec4.md."""
import numpy as np

SYMBOLS = 32
SLOTS = 4096
_BUCKET = SLOTS // SYMBOLS
_STATE_MIN = 65536


def read_frequencies(reader):
    low, middle, high = reader.array("u1", 48, "frequencies").reshape(16, 3).astype(int).T
    pairs = np.stack([low | (middle & 15) << 8, middle >> 4 | high << 4], axis=1)
    frequencies = pairs.reshape(SYMBOLS)
    if frequencies.sum() != SLOTS:
        raise ValueError(f"the frequencies add up to {frequencies.sum()}")
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
    for row in rows:
        slots = states % SLOTS
        row[:] = owner[slots]
        states = frequencies[row] * (states // SLOTS) + position[slots]
        short = np.flatnonzero(states < _STATE_MIN)
        if taken + len(short) > len(words):
            raise ValueError("too few words")
        states[short] = states[short] * _STATE_MIN + words[taken:taken + len(short)]
        taken += len(short)
    if taken != len(words) or np.any(states != _STATE_MIN):
        raise ValueError("the words don't end with the symbols")
    return rows.reshape(-1)[:count]
