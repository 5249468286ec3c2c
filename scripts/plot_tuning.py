#!/usr/bin/env python3
"""Draws a tuning run as PNG: a heat map of the speed over chunk_size and heads_per_band, and the progress of the best.

    scripts/plot_tuning.py RUN_DIR [-o OUT.png]

RUN_DIR is a folder that `xlstm_generate tune` wrote. Speeds are relative to the plain configuration, as the run
compared them pair by pair, so that the machine's drift does not show. Needs matplotlib.
"""

import argparse
import json
import pathlib
import sys


def refuse(message):
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def read_run(folder):
    """The meta object and the candidate trials of a run; a line that a run under way has not finished is left out."""
    for name in ("run_meta.json", "trials.jsonl"):
        if not (folder / name).is_file():
            refuse(f"RUN_DIR ({folder}): expected the folder of a tuning run, got one without {name}")
    try:
        meta = json.loads((folder / "run_meta.json").read_text(encoding="utf-8"))
        text = (folder / "trials.jsonl").read_text(encoding="utf-8")
        lines = text.split("\n")[:-1]
        trials = [json.loads(line) for line in lines]
        for trial in trials:
            trial["vs_plain"] = float(trial["vs_plain"])
            trial["params"] = {key: int(trial["params"][key]) for key in ("chunk_size", "heads_per_band", "workers")}
        plain = {key: int(meta["plain"][key]) for key in ("chunk_size", "heads_per_band", "workers")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        refuse(f"RUN_DIR ({folder}): expected the folder of a tuning run, got {type(error).__name__}: {error}")
    return meta, plain, trials


def best_speeds(plain, trials):
    """The speed at each (heads_per_band, chunk_size): the fastest over the numbers of workers."""
    speeds = {(plain["heads_per_band"], plain["chunk_size"]): 1.0}
    for trial in trials:
        place = (trial["params"]["heads_per_band"], trial["params"]["chunk_size"])
        speeds[place] = max(speeds.get(place, 0.0), trial["vs_plain"])
    return speeds


def draw_heat_map(axes, figure, plain, trials):
    from matplotlib.colors import TwoSlopeNorm

    speeds = best_speeds(plain, trials)
    heads = sorted({place[0] for place in speeds})
    chunks = sorted({place[1] for place in speeds})
    grid = [[speeds.get((h, c), float("nan")) for c in chunks] for h in heads]
    # Plain is the middle of the colours, and small differences stay pale.
    reach = max(0.1, max(abs(speed - 1) for speed in speeds.values()))
    norm = TwoSlopeNorm(vcenter=1, vmin=1 - reach, vmax=1 + reach)
    axes.set_facecolor("#eeeeee")
    image = axes.imshow(grid, aspect="auto", origin="lower", cmap="RdYlBu", norm=norm)
    figure.colorbar(image, ax=axes, label="speed relative to plain", pad=0.02)
    if len(speeds) <= 160:
        size = 8 if len(chunks) <= 20 else 6
        for (h, c), speed in speeds.items():
            color = "white" if abs(speed - 1) > 0.7 * reach else "black"
            axes.text(chunks.index(c), heads.index(h), f"{speed:.2f}", ha="center", va="center", fontsize=size,
                      color=color)
    fastest = max(speeds, key=speeds.get)
    marks = (((plain["heads_per_band"], plain["chunk_size"]), "black", "--", "plain", 0.44),
             (fastest, "black", "-", "fastest measured", 0.48))
    for (h, c), color, style, label, half in marks:
        x, y = chunks.index(c), heads.index(h)
        axes.plot([x - half, x + half, x + half, x - half, x - half], [y - half, y - half, y + half, y + half, y - half],
                  color=color, linestyle=style, linewidth=2, label=label)
    axes.set_xlim(-0.5, len(chunks) - 0.5)
    axes.set_ylim(-0.5, len(heads) - 0.5)
    axes.set_xticks(range(len(chunks)), [str(c) for c in chunks])
    axes.set_yticks(range(len(heads)), [str(h) for h in heads])
    axes.set_xlabel("chunk_size")
    axes.set_ylabel("heads_per_band")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1.005), ncols=2, frameon=False, fontsize=9)


def draw_progress(axes, trials):
    numbers = [trial["trial"] for trial in trials]
    incumbent = 1.0
    best = []
    for trial in trials:
        if trial["accepted"]:
            incumbent = trial["vs_plain"]
        best.append(incumbent)
    low = [trial["vs_plain"] / trial["speedup"]["median"] * trial["speedup"]["lower_quartile"] for trial in trials]
    high = [trial["vs_plain"] / trial["speedup"]["median"] * trial["speedup"]["upper_quartile"] for trial in trials]
    axes.vlines(numbers, low, high, color="0.75", linewidth=3, label="middle half of its pairs")
    axes.plot(numbers, [trial["vs_plain"] for trial in trials], "o", color="0.35", markersize=4, label="candidate")
    axes.step([0] + numbers, [1.0] + best, where="post", color="tab:blue", linewidth=2, label="best so far")
    axes.axhline(1, color="black", linestyle="--", linewidth=1, label="plain")
    axes.set_xlabel("trial")
    axes.set_ylabel("speed relative to plain")
    axes.margins(x=0.02)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1.005), ncols=4, frameon=False, fontsize=9)


def main():
    parser = argparse.ArgumentParser(description="Draw a tuning run as PNG.")
    parser.add_argument("run_dir", metavar="RUN_DIR", type=pathlib.Path, help="folder that `xlstm_generate tune` wrote")
    parser.add_argument("-o", "--output", metavar="OUT.png", type=pathlib.Path, help="default: RUN_DIR/tuning.png")
    args = parser.parse_args()
    meta, plain, trials = read_run(args.run_dir)
    candidates = [trial for trial in trials if trial.get("kind") == "candidate"]
    if not candidates:
        refuse(f"RUN_DIR ({args.run_dir}): expected one trial or more in trials.jsonl, got none")
    try:
        import matplotlib
    except ImportError:
        print("error: matplotlib (python3): expected an installed package, got none; "
              "python3 -m pip install matplotlib", file=sys.stderr)
        sys.exit(1)
    matplotlib.use("Agg")
    from matplotlib import pyplot

    speeds = best_speeds(plain, candidates)
    columns = len({place[1] for place in speeds})
    rows = len({place[0] for place in speeds})
    figure, (top, bottom) = pyplot.subplots(
        2, 1, figsize=(max(9, 2.5 + 0.5 * columns), 5.5 + 0.45 * rows), layout="constrained",
        gridspec_kw={"height_ratios": [1.2 + 0.45 * rows, 3]})
    draw_heat_map(top, figure, plain, candidates)
    draw_progress(bottom, candidates)
    model = meta.get("model", {}).get("name", "")
    kernel = meta.get("kernels", {}).get("chunkwise", "")
    objective = meta.get("search", {}).get("objective", "")
    figure.suptitle(f"{model}, {objective} with {kernel} on {meta.get('device', '')}", x=0.01, ha="left")
    output = args.output or args.run_dir / "tuning.png"
    try:
        figure.savefig(output, dpi=120, format="png")
    except OSError as error:
        print(f"error: output file ({output}): expected a writable place, got {error.strerror}", file=sys.stderr)
        sys.exit(6)
    print(output)


if __name__ == "__main__":
    main()
