"""Trains the rows of a plan one after another and prints their table.

A plan (``benchmarks/plans/*.json``) names a configuration and, for each row, what it changes.
Every row is a run of ``rt-seg-model train`` judged by ``rt-seg-model evaluate``; a row that has
been judged is not run again, and one that was interrupted goes on, so a plan can be stopped at
any time. With ``"networks": true`` the rows are networks under one configuration, and their
size, multiply-accumulates and latency on this machine stand beside the accuracy: the CPU
engine in FP32 at 512x512, all networks in turn, whenever the table is printed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import machine

PLANS = Path(__file__).parent / "plans"
#: Latency is measured at the paper's input size, whatever a plan trains at.
BENCH_SIZE = "512x512"


def command(name: str) -> str:
    """Return the path of an installed command."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        raise SystemExit(f"{name} is not installed in this environment: pip install .[train]")
    return found


def run(arguments: Sequence[str], log: Path) -> None:
    """Run a command, its output into ``log``."""
    with open(log, "a") as out:
        if subprocess.run(arguments, stdout=out, stderr=subprocess.STDOUT).returncode:
            raise SystemExit(f"failed: {' '.join(arguments)}; see {log}")


def ask(arguments: Sequence[str]) -> Any:
    """Run a command and return the JSON that it prints."""
    done = subprocess.run(arguments, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"failed: {' '.join(arguments)}: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout)


def train_row(
    row: dict[str, Any], plan: dict[str, Any], options: argparse.Namespace
) -> dict[str, Any]:
    """Train and judge one row; return what is kept of it."""
    folder = options.out / row["name"]
    folder.mkdir(parents=True, exist_ok=True)
    network = row["name"] if plan.get("networks") else None
    arguments = [command("rt-seg-model"), "train", plan["config"], "--data", str(options.data)]
    arguments += ["--out", str(folder / "run"), *row.get("train", []), *options.train]
    if network:
        arguments += ["--network", network]
    if (folder / "run" / "config.json").exists():
        arguments.append("--resume")
    run(arguments, folder / "log.txt")
    config = json.loads((folder / "run" / "config.json").read_text())
    progress = next((folder / "run").glob("checkpoint*.json"))
    side = row.get("size", config["size"])
    judged = ask(
        [
            *(command("rt-seg-model"), "evaluate", str(folder / "run" / "average.weights.h5")),
            *("--network", config["network"], "--size", f"{side}x{side}"),
            *("--data", str(options.data / options.validation), "--upsample", "logits", "--json"),
        ]
    )
    result = {
        "name": row["name"],
        "change": row.get("change", ""),
        "miou": judged["mean_iou"],
        "pixel_accuracy": judged["pixel_accuracy"],
        "views": config["phases"][0]["batch"] * config["steps"],
        "seconds": json.loads(progress.read_text())["seconds"],
    }
    if network:
        result |= cost(network, folder)
    return result


def cost(network: str, folder: Path) -> dict[str, Any]:
    """Export a trained network at `BENCH_SIZE`; return parameters and multiply-accumulates."""
    [counted] = ask([command("rt-seg-model"), "summary", network, "--size", BENCH_SIZE, "--json"])
    onnx = folder / f"{network}.onnx"
    weights = str(folder / "run" / "average.weights.h5")
    run(
        [
            *(command("rt-seg-model"), "export", weights, str(onnx), "--network", network),
            *("--size", BENCH_SIZE, "--overwrite"),
        ],
        folder / "log.txt",
    )
    return {"parameters": counted["parameters"], "macs": counted["macs"]}


def add_latency(results: Sequence[dict[str, Any]], out: Path) -> None:
    """Add each network's latency, all measured in turn in one process."""
    benched = ask(
        [
            *(command("rt-seg-engine"), "bench", "--backend", "openvino", "--precision", "fp32"),
            *("--mode", "latency", "-n", "10", "--warmup", "3", "--rounds", "5", "--json"),
            *(str(out / r["name"] / f"{r['name']}.onnx") for r in results),
        ]
    )
    engines = benched["engines"] if len(results) > 1 else [benched]
    for result, engine in zip(results, engines, strict=True):
        result["latency_ms"] = (
            engine["rounds"]["latency_ms"]
            if len(results) > 1
            else {"median": engine["latency_ms"]["p50"]}
        )


def spread(values: dict[str, float]) -> str:
    """Return the median, with the least and the most where there were several rounds."""
    if "least" not in values:
        return f"{values['median']:.1f}"
    return f"{values['median']:.1f} ({values['least']:.1f}–{values['most']:.1f})"


def table(results: Sequence[dict[str, Any]], networks: bool) -> str:
    """Return the results as a Markdown table."""
    if networks:
        lines = [
            "| network | mIoU % | pixels % | parameters | GMAC | latency ms | minutes |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
        for r in results:
            lines.append(
                f"| {r['name']} | {100 * r['miou']:.2f} | {100 * r['pixel_accuracy']:.2f} | "
                f"{r['parameters'] / 1e6:.2f} M | {r['macs'] / 1e9:.2f} | "
                f"{spread(r['latency_ms'])} | {r['seconds'] / 60:.1f} |"
            )
        return "\n".join(lines)
    base = next((r["miou"] for r in results if r["name"] == "base"), None)
    lines = [
        "| run | change | mIoU % | against base | pixels % | minutes |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for r in results:
        against = "" if base is None else f"{100 * (r['miou'] - base):+.2f}"
        lines.append(
            f"| {r['name']} | {r['change']} | {100 * r['miou']:.2f} | {against} | "
            f"{100 * r['pixel_accuracy']:.2f} | {r['seconds'] / 60:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the plan."""
    parser = argparse.ArgumentParser(
        description="Train the rows of a plan one after another and print their table.",
        epilog="Options of rt-seg-model train go behind --.",
    )
    plans = sorted(path.stem for path in PLANS.glob("*.json"))
    parser.add_argument("plan", help=f"a JSON file, or one of {', '.join(plans)}")
    parser.add_argument("--data", type=Path, required=True, help="data root, as for training")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="only these rows")
    parser.add_argument("--validation", default="cityscapes-512x256", help="(%(default)s)")
    words = sys.argv[1:]
    split = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:split])
    options.train = words[split + 1 :]
    path = Path(options.plan)
    try:
        plan = json.loads((path if path.exists() else PLANS / f"{options.plan}.json").read_text())
        names = [row["name"] for row in plan["rows"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"recipes.py: no plan: {options.plan} ({error!r})") from None
    if unknown := sorted(set(options.rows or ()) - set(names)):
        raise SystemExit(f"recipes.py: no row {unknown[0]}. Allowed: {', '.join(names)}")
    rows = [row for row in plan["rows"] if not options.rows or row["name"] in options.rows]
    options.out.mkdir(parents=True, exist_ok=True)
    for row in rows:
        kept = options.out / f"{row['name']}.json"
        if not kept.exists():
            print(f"{row['name']} ...", file=sys.stderr, flush=True)
            partial = kept.with_suffix(".partial")  # a row that was cut short is no row
            partial.write_text(json.dumps(train_row(row, plan, options), indent=1))
            partial.replace(kept)
    results = [
        json.loads(kept.read_text())
        for row in plan["rows"]
        if (kept := options.out / f"{row['name']}.json").exists()
    ]
    networks = bool(plan.get("networks"))
    if networks and results:
        add_latency(results, options.out)
    print(machine())
    print(table(results, networks))


if __name__ == "__main__":
    main()
