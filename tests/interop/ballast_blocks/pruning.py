"""docs/formats/pruning.md: puts the slices that a pruning kept back to where they came from."""
import numpy as np

_ROWS, _COLUMNS, _CHANNELS = 3, 4, 5


def _axis(kind, rank):
    return {_ROWS: 0, _COLUMNS: rank - 1, _CHANNELS: 1}[kind]


def kept_slices(bitmap, extent):
    if len(bitmap) != -(-extent // 8):
        raise ValueError(f"a bitmap of {len(bitmap)} bytes for {extent} slices")
    bits = np.unpackbits(np.frombuffer(bitmap, np.uint8), bitorder="little")
    if bits[extent:].any():
        raise ValueError(f"a bit behind the {extent} slices")
    return np.flatnonzero(bits)


def expand(small, kind, shape, bitmap):
    """The tensor in its original shape. Only kinds 3 to 5 change it."""
    if kind not in (_ROWS, _COLUMNS, _CHANNELS):
        return small.reshape(shape)
    axis = _axis(kind, len(shape))
    kept = kept_slices(bitmap, shape[axis])
    small_shape = [*shape[:axis], len(kept), *shape[axis + 1:]]
    expanded = np.zeros(shape, small.dtype)
    np.moveaxis(expanded, axis, 0)[kept] = np.moveaxis(small.reshape(small_shape), axis, 0)
    return expanded
