"""How long a run folder of ten thousand cells takes to be resumed, listed and reported: Markdown on stdout.

    python benchmarks/ten_thousand_cells.py

One cell is made; the others are its row under other names: ten detectors, ten OOD sets, a hundred seeds.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DETECTORS, SETS, SEEDS = 10, 10, 100
BENCH = [
    "bench",
    "--detector",
    "complexity",
    "--id",
    "digits",
    "--ood",
    "noise",
    "--limit",
    "50",
    "--run-folder",
    "run",
]


def seconds(folder: Path, *arguments: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "oodkit", *arguments], check=True, cwd=folder, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds(folder, *BENCH)
        results = folder / "run" / "results.jsonl"
        first = results.read_text()
        row = {key: value for key, value in json.loads(first.splitlines()[0]).items() if key != "check"}
        rows = [
            json.dumps({
                **row,
                "key": f"{d * SETS * SEEDS + s * SEEDS + seed:032x}",
                "detector": f"detector-{d}",
                "ood": f"set-{s}",
                "seed": seed,
                "auroc": (d + s + seed / SEEDS) / (DETECTORS + SETS),
            })
            for d in range(DETECTORS)
            for s in range(SETS)
            for seed in range(SEEDS)
        ]  # fmt: skip
        results.write_text(first + "\n".join(rows) + "\n")
        print(f"{len(results.read_text().splitlines()):,} rows, {results.stat().st_size / 2**20:.0f} MiB\n")
        print("| command | seconds |\n| --- | --- |")
        print(f"| `oodkit bench`, all found | {seconds(folder, *BENCH):.1f} |")
        print(f"| `oodkit report run --markdown` | {seconds(folder, 'report', 'run', '--markdown'):.1f} |")
        print(f"| `oodkit report run` | {seconds(folder, 'report', 'run'):.1f} |")
        print(f"| `oodkit --version` | {seconds(folder, '--version'):.1f} |")


if __name__ == "__main__":
    main()
