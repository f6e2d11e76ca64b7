"""Run paper_cpu.toml with the weights of the paper's authors, and keep rows and report in benchmarks/results/paper-cpu.

    OODKIT_DATA=<sets> OODKIT_REFERENCE=<weights> python benchmarks/paper_cpu.py [--trial]

It goes on where it was stopped. --trial makes it tiny: its rows and report are in runs/paper-cpu-trial.
"""

import argparse
import json
import os
import shutil
import sys
from contextlib import redirect_stdout
from pathlib import Path

from reference import folder_of, reference_vae

from oodkit.cli import main as oodkit

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path("runs/paper-cpu")
RESULTS = ROOT / "benchmarks" / "results" / "paper-cpu"
WEIGHTS = {  # our file -> theirs
    "vae-fashion-mnist-seed1": "fashion-mnist-n32-z100-seed1",
    "vae-fashion-mnist-seed2": "fashion-mnist-n32-z100-seed2",
    "vae-fashion-mnist-n16": "fashion-mnist-n16-z100",
    "vae-fashion-mnist-background": "fashion-mnist-n32-z100-background",
    "vae-cifar10-n32": "cifar10-n32-z200",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trial", action="store_true", help="10 test images of each set, 60 training images")
    args = parser.parse_args()
    for variable in ("OODKIT_DATA", "OODKIT_REFERENCE"):
        os.environ[variable] = str(folder_of(variable).resolve())
    os.chdir(ROOT)
    (FOLDER / "weights").mkdir(parents=True, exist_ok=True)
    for ours, theirs in WEIGHTS.items():
        file = FOLDER / "weights" / f"{ours}.oodkit"
        if not file.exists():
            reference_vae(theirs).save(file)
    run, smaller = FOLDER, []
    if args.trial:
        run, smaller = Path(f"{FOLDER}-trial"), ["--limit", "10", "--train-limit", "60"]
    code = oodkit(
        ["bench", "--spec", "benchmarks/paper_cpu.toml", "--device", "cpu", "--run-folder", str(run), *smaller]
    )
    publish(run, run / "report" if args.trial else RESULTS)
    return code


def publish(run: Path, folder: Path) -> None:
    """Write rows and report, without the names of this machine's folders."""
    folder.mkdir(parents=True, exist_ok=True)
    data = os.environ["OODKIT_DATA"]
    rows = [json.loads(line) for line in (run / "results.jsonl").read_text().replace(data, "$OODKIT_DATA").splitlines()]
    for row in rows:
        row.pop("check", None)  # it was of the names that have been replaced
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if (run / "missing.json").exists():
        (folder / "missing.json").write_text((run / "missing.json").read_text().replace(data, "$OODKIT_DATA"))
    shutil.copytree(run / "scores", folder / "scores", dirs_exist_ok=True)
    oodkit(["report", str(folder), "--out", str(folder / "report.html")])
    shutil.rmtree(folder / "scores")  # they are in the page, as curves
    with (folder / "report.md").open("w") as file, redirect_stdout(file):
        oodkit(["report", str(folder), "--markdown"])


if __name__ == "__main__":
    sys.exit(main())
