"""Size against error, one panel for each data set: up and to the left is better."""
import pathlib

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

BITS_MAX = 5.0  # wider codecs lose so little that they would flatten the rest
FAMILIES = {"int4": "#1f5fa8", "ec4": "#c0531a", "ec4t": "#2b7a4b"}
PEER_COLOR = "#666666"
COLUMNS = 2


def family_of(method: str) -> str | None:
    family = method.partition(":")[0]
    return family if family in FAMILIES else None


def short_name(method: str) -> str:
    return method.replace(":group=", " g").replace(":bits=", " ")


def draw_panel(axes, rows: list[dict]) -> None:
    for family, color in FAMILIES.items():
        ours = sorted((row["bits"], row["sqnr_db"], row["method"])
                      for row in rows if row["owner"] == "ballast" and family_of(row["method"]) == family)
        if not ours:
            continue
        axes.plot([row[0] for row in ours], [row[1] for row in ours], "-o", color=color, markersize=5,
                  linewidth=1.6, label=f"Ballast {family}", zorder=3)
        for bits, error, method in ours:
            axes.annotate(short_name(method), (bits, error), xytext=(-6, 5), ha="right",
                          textcoords="offset points", fontsize=8, color=color)
    peers = [row for row in rows if row["owner"] == "peer"]
    axes.plot([row["bits"] for row in peers], [row["sqnr_db"] for row in peers], "D", color=PEER_COLOR,
              markersize=5, linestyle="none", label="ggml", zorder=2)
    for row in peers:
        axes.annotate(row["method"], (row["bits"], row["sqnr_db"]), xytext=(7, -3),
                      textcoords="offset points", fontsize=8, color=PEER_COLOR)
    axes.margins(x=0.32, y=0.14)
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def draw(run: dict, path: pathlib.Path) -> None:
    rows = [row for row in run["quality"] if row["bits"] <= BITS_MAX and row["sqnr_db"] is not None
            and (row["owner"] == "peer" or family_of(row["method"]))]
    sets = [name for name in run["sets"] if any(row["set"] == name for row in rows)]
    if not sets:
        return
    lines = -(-len(sets) // COLUMNS)
    chart, grid = plt.subplots(lines, COLUMNS, figsize=(9, 3.6 * lines + 0.5), sharex=True, squeeze=False)
    panels = list(grid.flat)
    for axes, name in zip(panels, sets):
        draw_panel(axes, [row for row in rows if row["set"] == name])
        axes.set_title(name, fontsize=10, loc="left")
        axes.set_ylabel("signal to error, dB", fontsize=9)
        # Panels may have an empty place below them.
        axes.tick_params(labelbottom=True, labelsize=8)
    for axes in panels[len(sets):]:
        axes.set_visible(False)
    for axes in panels[max(len(sets) - COLUMNS, 0) : len(sets)]:
        axes.set_xlabel("bits per value, headers included", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    chart.legend(handles, labels, loc="upper right", ncols=len(labels), frameon=False, fontsize=9)
    chart.suptitle("What a value costs, and what it loses", x=0.02, ha="left", fontsize=11)
    chart.tight_layout(rect=(0, 0, 1, 0.98))
    path.parent.mkdir(parents=True, exist_ok=True)
    chart.savefig(path, dpi=150)
