"""raw, f32, f16 and bf16 of docs/formats/block.md."""
from .dtypes import BF16, F16, F32

_STORED = {"f32": F32, "f16": F16, "bf16": BF16}


def decode(header, reader):
    stored = _STORED.get(header.codec, header.dtype)
    return stored, reader.array(stored.bits, header.values, "values")
