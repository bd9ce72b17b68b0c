import numpy as np

CHUNK_VALUES = 131072


class Reader:
    """Bytes that are read once, from front to back. To read more of them than there are fails."""

    def __init__(self, data, what):
        self._data, self._at, self._what = memoryview(data), 0, what

    def left(self):
        return len(self._data) - self._at

    def part(self, size, what):
        if size > self.left():
            raise ValueError(f"{self._what}: {what} ends {size - self.left()} bytes too early")
        self._at += size
        return Reader(self._data[self._at - size:self._at], what)

    def ahead(self, most):
        """The next bytes, or as many as there are, without reading them."""
        return np.frombuffer(self._data[self._at:self._at + most], np.uint8)

    def array(self, dtype, count, what):
        return np.frombuffer(self.part(count * np.dtype(dtype).itemsize, what)._data, dtype)

    def number(self, dtype, what):
        return self.array(dtype, 1, what)[0].item()

    def end(self):
        if self.left():
            raise ValueError(f"{self._what}: {self.left()} bytes too many")


def chunk_sizes(values):
    """How many values each chunk of a block has. One by one: a damaged header may claim any number."""
    return (min(CHUNK_VALUES, values - first) for first in range(0, values, CHUNK_VALUES))


def chunks_by_table(values, reader):
    """Each chunk's number of values and its bytes, where a table says the chunks' lengths."""
    sizes = list(chunk_sizes(values))
    lengths = reader.array("<u4", len(sizes), "chunk table")
    return [(n, reader.part(int(length), f"chunk {number}"))
            for number, (n, length) in enumerate(zip(sizes, lengths))]


def joined(parts, dtype):
    return np.concatenate([np.empty(0, dtype), *parts])
