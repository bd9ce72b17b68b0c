"""The header of docs/formats/block.md, and what the codecs' own pages say of its fields."""
import struct
from dataclasses import dataclass

import numpy as np

from . import dtypes

HEADER_BYTES = 64
_LAYOUT = struct.Struct("<4sBBBBI4sQ36sI")
_NO_SCALE, _LOG_SCALE, _STEP = 0, 1, 2
_LOG_SCALE_MAX = 2.0**120 * (2 - 2.0**-23)
EC4_STEPS = (2.0**-120, 1.0625 * 2.0**124)


@dataclass(frozen=True)
class _Rules:
    codec: str
    scale_type: int = _NO_SCALE
    groups: tuple = (0,)
    scales: tuple | None = None
    parameters: str = "none"


_RULES = {
    1: _Rules("raw"),
    2: _Rules("f32"),
    3: _Rules("f16"),
    4: _Rules("bf16"),
    5: _Rules("int4", _LOG_SCALE, (16, 32, 64), (2.0**-118, _LOG_SCALE_MAX), "codebook"),
    6: _Rules("int8", _LOG_SCALE, (32,), (2.0**-110, _LOG_SCALE_MAX)),
    7: _Rules("ec4", _STEP, (0, 256, 512, 1024), EC4_STEPS),
    8: _Rules("ec4t", _STEP, (0,), (EC4_STEPS[0], EC4_STEPS[1] / 2)),
    9: _Rules("lossless", parameters="digest"),
    10: _Rules("sparse4", _LOG_SCALE, (16, 32, 64), (2.0**-118, _LOG_SCALE_MAX), "codebook"),
}


@dataclass(frozen=True)
class Header:
    codec: str
    dtype: dtypes.DType
    group: int
    base: np.float32
    values: int
    codebook: np.ndarray
    base_sha256: bytes | None


def _crc32c_table():
    table = list(range(256))
    for _ in range(8):
        table = [entry >> 1 ^ (0x82f63b78 if entry & 1 else 0) for entry in table]
    return table


_CRC32C = _crc32c_table()


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 255]
    return crc ^ 0xffffffff


def _require(condition, message):
    if not condition:
        raise ValueError(f"header: {message}")


def _read_digest(parameters):
    digest, has_base, reserved = parameters[:32], parameters[32], parameters[33:]
    _require(not any(reserved), "bytes 57 to 59 are not 0")
    _require(has_base in (0, 1), f"byte 56 is {has_base}")
    _require(has_base or not any(digest), "a digest of no base")
    return digest if has_base else None


def _read_codebook(parameters):
    codebook = np.frombuffer(parameters, np.int8, 16)
    _require(codebook.min() >= -127, "codebook entry -128")
    _require(not any(parameters[16:]), "reserved bytes are not 0")
    return codebook


def read_header(block):
    _require(len(block) >= HEADER_BYTES, f"the block has only {len(block)} bytes")
    (magic, version, codec, dtype, scale_type, group, scale, values, parameters,
     checksum) = _LAYOUT.unpack_from(block)
    _require(magic == b"BLST", "this is no block")
    _require(checksum == crc32c(block[:60]), "wrong checksum")
    _require(version == 1, f"version {version}")
    _require(codec in _RULES, f"codec {codec}")
    _require(dtype in dtypes.BY_NUMBER, f"dtype {dtype}")
    rules, source = _RULES[codec], dtypes.BY_NUMBER[dtype]
    _require(rules.codec == "raw" or source in dtypes.FLOATS, f"{rules.codec} of {source.name}")
    _require(scale_type == rules.scale_type, f"scale type {scale_type}")
    _require(group in rules.groups, f"group size {group}")
    base, = np.frombuffer(scale, "<f4")
    if rules.scales is None:
        _require(not any(scale), "a scale base")
    else:
        _require(rules.scales[0] <= float(base) <= rules.scales[1], f"scale base {base}")
    codebook = digest = None
    if rules.parameters == "codebook":
        codebook = _read_codebook(parameters)
    elif rules.parameters == "digest":
        digest = _read_digest(parameters)
    else:
        _require(not any(parameters), "reserved bytes are not 0")
    return Header(rules.codec, source, group, base, values, codebook, digest)
