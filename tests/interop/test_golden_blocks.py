#!/usr/bin/env python3
"""The golden blocks, read by ballast_blocks, hold what the library reads from them.

tests/golden/block/decoded.txt says for each block how the SHA-256 of its values begins, in each dtype
that it can be read as. The library wrote it; see tests/unit/quant/golden_test.cc.
"""
import hashlib
import pathlib
import re
import struct
import sys
import unittest

try:
    import numpy as np
except ModuleNotFoundError:
    sys.exit("numpy is missing: install Debian's python3-numpy (scripts/bootstrap does), or choose "
             "another Python with -DPython3_EXECUTABLE=...")

import ballast_blocks
from ballast_blocks import pruning
from ballast_blocks.header import crc32c

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden" / "block"
CODECS = {"raw", "f32", "f16", "bf16", "int4", "int8", "ec4", "ec4t", "lossless", "sparse4"}


def expected_digests():
    lines = (GOLDEN / "decoded.txt").read_text(encoding="utf-8").splitlines()
    return {name: digests for name, *digests in map(str.split, lines)}


def read_golden(name):
    """A golden block, and its base's values if it has one: the block without "-delta" holds them."""
    block, base = (GOLDEN / name).read_bytes(), None
    if "-delta" in name:
        base = ballast_blocks.decode(*read_golden(name.replace("-delta", ""))).tobytes()
    return block, base


def decoded_digests(block, base, count):
    """In F32, F16 and BF16; or in the source dtype, if a block can be read as that alone."""
    dtypes = ["F32", "F16", "BF16"] if count == 3 else [None]
    return [hashlib.sha256(ballast_blocks.decode(block, base, dtype)).hexdigest()[:12]
            for dtype in dtypes]


def with_byte(block, at, byte):
    return block[:at] + bytes([byte]) + block[at + 1:]


def sealed(block):
    """With a header checksum that fits."""
    return block[:60] + struct.pack("<I", crc32c(block[:60])) + block[64:]


class GoldenBlocks(unittest.TestCase):
    def test_values_are_those_that_the_library_reads(self):
        for name, digests in expected_digests().items():
            with self.subTest(name):
                self.assertEqual(decoded_digests(*read_golden(name), len(digests)), digests)

    def test_every_block_and_every_codec_is_there(self):
        names = set(expected_digests())
        files = {path.relative_to(GOLDEN).as_posix() for path in GOLDEN.rglob("*.block")}
        self.assertEqual(names, files)
        self.assertEqual({re.search(r"(?:^|/)(\w+?)[-_]", name)[1] for name in names}, CODECS)


class DamagedBlocks(unittest.TestCase):
    def assert_rejected(self, block, base=None, message=""):
        with self.assertRaisesRegex(ValueError, message):
            ballast_blocks.decode(block, base)

    def test_a_flipped_bit_in_the_header_is_noticed(self):
        for name in expected_digests():
            block, base = read_golden(name)
            for at in range(ballast_blocks.HEADER_BYTES):
                with self.subTest(name, at=at):
                    self.assert_rejected(with_byte(block, at, block[at] ^ 1), base, "header")

    def test_a_reserved_byte_is_noticed_where_the_checksum_fits(self):
        for name in expected_digests():
            block, base = read_golden(name)
            with self.subTest(name):
                self.assert_rejected(sealed(with_byte(block, 59, 1)), base, "not 0")

    def test_a_block_of_another_length_is_noticed(self):
        for name in expected_digests():
            block, base = read_golden(name)
            for other in (block[:-1], block[:20], b"", block + b"\0"):
                with self.subTest(name, size=len(other)):
                    self.assert_rejected(other, base)

    def test_a_difference_needs_its_own_base(self):
        block, base = read_golden("lossless-delta_F32_700.block")
        self.assert_rejected(block, None, "its base is needed")
        self.assert_rejected(block, base[:-4], "a base of 2796 bytes for 700 values")
        self.assert_rejected(block, with_byte(base, 0, base[0] ^ 1), "not the block's base")

    def test_a_damaged_chunk_that_is_entropy_coded_is_noticed(self):
        for name in ("ec4_F32_5000.block", "ec4-group-512_F32_5000.block",
                     "ec4t_BF16_5000.block", "lossless_F32_700.block"):
            block, base = read_golden(name)
            with self.subTest(name):
                middle = len(block) - 200
                self.assert_rejected(with_byte(block, middle, block[middle] ^ 1), base)


class Pruning(unittest.TestCase):
    def test_the_example_of_the_page(self):
        small = np.array([3, 4, 5, 6, 9, 10, 11, 12], np.float32)
        expanded = pruning.expand(small, 5, (2, 3, 2), b"\x06")
        self.assertEqual(expanded.reshape(-1).tolist(), [0, 0, 3, 4, 5, 6, 0, 0, 9, 10, 11, 12])

    def test_rows_and_columns(self):
        small = np.array([1, 2], np.float32)
        self.assertEqual(pruning.expand(small, 3, (2, 2), b"\x02").tolist(), [[0, 0], [1, 2]])
        self.assertEqual(pruning.expand(small, 4, (2, 2), b"\x01").tolist(), [[1, 0], [2, 0]])

    def test_a_bitmap_of_another_length_or_with_a_bit_too_many_is_rejected(self):
        for bitmap in (b"", b"\x06\0", b"\x0e"):
            with self.assertRaises(ValueError):
                pruning.expand(np.zeros(8, np.float32), 5, (2, 3, 2), bitmap)


if __name__ == "__main__":
    unittest.main()
