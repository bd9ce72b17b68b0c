"""What the codecs are to reach. A row that no target speaks of gets an empty cell; a target that
needs a peer which was not measured says so instead of passing."""

# codec: (bits at most, peer, dB above the peer at least), on every set.
ERROR = {
    "int4": [(None, "Q4_0", 0.8), (None, "IQ4_NL", 0.0)],
    "int4:group=16": [(None, "Q4_K", 0.2)],
    "ec4": [(4.0, "Q4_0", 0.0)],
    "ec4t": [(3.8, "Q4_0", 0.0)],
    "ec4t:bits=4.05": [(4.05, "Q4_K", 0.0)],
}
# (codec, what, 16 bits wide): [(figure of the row, at least)].
SPEED = {
    ("int4", "decode, in cache", False): [("to_memset", 0.9)],
    ("int4", "decode, out of cache", False): [("to_memset", 0.85), ("to_memcpy", 1.8)],
    ("int4", "decode, out of cache", True): [("to_memcpy", 3.3)],
    ("int4", "encode", False): [("gb_per_second", 1.0)],
    ("ec4", "decode, out of cache", False): [("to_memcpy", 1.4)],
    ("ec4t", "decode, out of cache", False): [("to_memcpy", 1.1)],
    ("ec4", "encode", False): [("gb_per_second", 3.0)],
    ("ec4t", "encode", False): [("gb_per_second", 1.5)],
}
SPEED_SET = "gauss"  # full blocks, the same on every machine
FIGURES = {"to_memset": "memset", "to_memcpy": "memcpy", "gb_per_second": "GB/s", "to_split_zstd": "zstd"}
PRUNED_CODEC = "sparse4"
PRUNED = {"2:4": 9.8, "50 %": 9.8, "80 %": 15.0, "90 %": 25.0}  # times smaller than F32
BITMAP_SETS = ("gauss, 2:4", "gauss, 50 %")  # of those with fewer values, chunks are entropy-coded
BITMAP_DECODE = 0.85  # memset
LOSSLESS_SET, LOSSLESS_SOURCE = "esrgan", "BF16"
LOSSLESS_SIZE, LOSSLESS_DECODE = 0.66, 2.5
DIFFERENCES = {"all moved by 1e-3": 0.15, "1 % moved by 1e-2": 0.02}


class Judge:
    def __init__(self, run: dict):
        self.met = self.missed = 0
        self.peers = {(row["set"], row["method"]): row["sqnr_db"]
                      for row in run["quality"] if row["owner"] == "peer"}
        # The fastest kernel that was measured is the one that is used.
        self.kernel = next((row["kernel"] for row in reversed(run["speed"]) if row["kernel"]), "")

    def _verdict(self, holds: bool, text: str) -> str:
        self.met += holds
        self.missed += not holds
        return f"{'yes' if holds else 'NO '} {text}"

    def quality(self, row: dict) -> str:
        verdicts = []
        for bits, peer, margin in ERROR.get(row["method"], []):
            against = self.peers.get((row["set"], peer))
            if against is None:
                verdicts.append(f"no {peer} to compare with")
                continue
            text = f">= {peer}" + (f" + {margin}" if margin else "")
            text += f" ({row['sqnr_db'] - against:+.2f})"
            holds = row["sqnr_db"] >= against + margin
            if bits is not None:
                text = f"<= {bits} bits, " + text
                holds = holds and row["bits"] <= bits
            verdicts.append(self._verdict(holds, text))
        return "; ".join(verdicts)

    def pruned(self, row: dict) -> str:
        least = PRUNED.get(row["set"].rpartition(", ")[2])
        if row["method"] != PRUNED_CODEC or least is None:
            return ""
        return self._verdict(32 / row["bits"] >= least, f">= {least}x")

    def size(self, row: dict) -> str:
        if row["owner"] == "peer" or not self._lossless(row):
            return ""
        most = DIFFERENCES.get(row["set"].rpartition(", ")[2], LOSSLESS_SIZE)
        return self._verdict(row["ratio"] <= most, f"<= {most}")

    def speed(self, row: dict) -> str:
        if row["owner"] == "peer" or row["kernel"] != self.kernel:
            return ""
        goals = []
        if row["to_split_zstd"] is not None:
            if row["what"] == "decode, out of cache" and self._lossless(row):
                goals = [("to_split_zstd", LOSSLESS_DECODE)]
        elif row["set"] in BITMAP_SETS and row["method"] == PRUNED_CODEC:
            if row["what"] == "decode, out of cache" and row["as"] == "F32":
                goals = [("to_memset", BITMAP_DECODE)]
        elif row["set"] == SPEED_SET:
            goals = SPEED.get((row["method"], row["what"], row["as"] != "F32"), [])
        return "; ".join(self._verdict(row[figure] >= least, f">= {least} {FIGURES[figure]}")
                         for figure, least in goals)

    @staticmethod
    def _lossless(row: dict) -> bool:
        return row["set"].startswith(LOSSLESS_SET) and row["source"] == LOSSLESS_SOURCE
