"""Decodes every block of docs/formats, and was written from those pages alone.

It shows that the pages are enough to read what Ballast has written, without Ballast. It is made to
be read beside them, not to be fast.
"""
from . import ec4, lossless, plain, scaled, sparse4
from .dtypes import BY_NAME, convert
from .header import HEADER_BYTES, read_header
from .reader import Reader

_CODECS = {
    "raw": plain.decode,
    "f32": plain.decode,
    "f16": plain.decode,
    "bf16": plain.decode,
    "int4": scaled.decode_int4,
    "int8": scaled.decode_int8,
    "ec4": ec4.decode,
    "ec4t": ec4.decode,
    "sparse4": sparse4.decode,
}


def decode(block, base=None, dtype=None):
    """A numpy array with the bits of a block's values, in `dtype` or else in the tensor's own.

    `base` are the bytes of the values that a lossless block may be a difference to. Raises
    ValueError for whatever a reader has to reject.
    """
    header = read_header(block)
    reader = Reader(block[HEADER_BYTES:], header.codec)
    if header.codec == "lossless":
        stored, bits = lossless.decode(header, reader, base)
    else:
        stored, bits = _CODECS[header.codec](header, reader)
    reader.end()
    return convert(bits, stored, BY_NAME[dtype] if dtype else header.dtype)
