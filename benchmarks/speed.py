"""How fast detectors fit and score, as ratios to one forward and one backward pass, side by side in one run.

    python benchmarks/speed.py [--quick] [--model vae-grey,vae-colour,glow] [--batch 1,16,64,256] [--detector …]
                               [--rounds 5] [--images 256] [--device cpu] [--threads 2] [--json]

The contenders take turns, round after round, so that whatever else the machine does meets all of them. What counts is
the ratio to the floor of the same round and model, at each contender's best batch size: its median, least and most.

- `plain floor`: one batched forward pass and one backward pass to the outputs of the scored layers, as autograd does
  it: nothing else. `floor`: the same through the VAE's own likelihood, which keeps the logits in the cache.
- `naive`: the literature's way. One image per backward pass, dense gradients, then the quadratic form of EKFAC.
- `kronfluence`: its self-influence scores (EKFAC, empirical Fisher, the same layers). `nngeometry`: its per-image
  gradients alone (it has no such score); both where they are installed and the layers are convolutions.
- `MFLOP`: operations of matrix products and convolutions for one image, counted; `of sgemm`: what share that is of what
  one large product of matrices reaches on this device, in the same run.
- `/ rose`: the same ratio to `rose-ekfac`, its median.
- `nll loop`: the importance-weighted likelihood, one image and one sample at a time.
- `training`: steps of the optimizer, each of a batch.

The models have the paper's sizes and no training, and the images are noise; `--model FILE=SET` takes a model that
`oodkit train` wrote and real images instead. Time depends on both: a trained decoder gives subnormal probabilities,
which processors multiply slowly, and noise does not compress. `peak` is the largest memory of a process that fits, and
then scores 256 images at once, less what it held before.
"""

import argparse
import contextlib
import io
import json
import math
import multiprocessing
import statistics
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
from contenders import FIT_IMAGES, MODELS, TRAINS, Contenders, images_of, make_detector, model_of, seconds
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from oodkit.device import device_name, resolve_device

USUAL = list(MODELS)[:3]
DETECTORS = ["rose-ekfac", "rose-diag", "rose-identity", "elbo", "nll"]
ONE_BY_ONE = {"naive", "nll loop"}
REGRETS = {"lr-e", "lr-z"}  # sixty-four images are optimised together
SLOW = ONE_BY_ONE | REGRETS | {"nngeometry"}  # for them a few images tell enough


def gigaflops(device: torch.device, size: int = 1536) -> float:
    """Return what one large product of float32 matrices reaches, in 10^9 operations a second: the best of five."""
    a = torch.rand(size, size, device=device)
    return 2e-9 * size**3 / min(seconds(lambda: a @ a, device) for _ in range(5))


def gigabytes(device: torch.device, size: int = 2**26) -> float:
    """Return what copying a tensor of `size` floats reads and writes, in 10^9 bytes a second: the best of five."""
    a, b = torch.rand(size, device=device), torch.empty(size, device=device)
    return 8e-9 * size / min(seconds(lambda: b.copy_(a), device) for _ in range(5))


class Traffic(TorchDispatchMode):
    """Counts the bytes of the tensors that operations are given and return; views move none."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(  # Any: an operation may take and return anything
        self, func: torch._ops.OpOverload, types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, Tensor)]
            # of a tensor that was expanded, what there is; of one that is an argument and the result, once
            held = {id(t): min(t.nbytes, t.untyped_storage().nbytes()) for t in tensors}
            self.bytes += sum(held.values())
        return result


def traffic(work: Callable[[Tensor], object], images: Tensor) -> float:
    """Return what operations read and write, in 10^6 bytes an image."""
    with Traffic() as counter:
        work(images)
    return counter.bytes / len(images) / 1e6


def operations(work: Callable[[Tensor], object], images: Tensor) -> float:
    """Return the multiplications and additions of matrix products and convolutions, in 10^6 an image."""
    with FlopCounterMode(display=False) as counter:
        work(images)
    return counter.get_total_flops() / len(images) / 1e6


def measure(contenders: Contenders, batches: list[int], rounds: int, images: int) -> dict[str, dict[int, list[float]]]:
    """Return images/s of each contender and batch size, one number for each round; the first round warms up."""
    device = contenders.model.device
    data = images_of(contenders.kind, "test", max(*batches, images), contenders.shape).to(device)
    speeds: dict[str, dict[int, list[float]]] = {name: {} for name in contenders.work}
    for number in range(rounds + 1):
        for name, work in contenders.work.items():
            for batch in sizes(name, batches):
                count = max(batch, min(images, 8 if name in ONE_BY_ONE else 64 if name in REGRETS else 8 * batch))
                parts = data[:count].split(batch)
                took = seconds(lambda work=work, parts=parts: [work(part) for part in parts], device)
                if number:
                    speeds[name].setdefault(batch, []).append(count / took)
    return speeds


def sizes(name: str, batches: list[int]) -> list[int]:
    """Return the batch sizes that a contender is timed at."""
    if name in SLOW - {"nngeometry"}:
        return [1] if name in ONE_BY_ONE else [64]
    limit = 64 if name in SLOW else 256 if name == "kronfluence" else math.inf
    return [b for b in batches if b <= limit]


def peak_memory(kind: str, detector: str, queue: "multiprocessing.Queue[float]") -> None:
    """Put, into `queue`, the megabytes that fitting and scoring 256 images at once add to a process."""
    model = model_of(kind, "cpu")
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts again from what is held now
    before = peak_kilobytes()
    fitted = make_detector(detector, model, 256).fit(images_of(kind, "train", FIT_IMAGES, model.image_shape))
    fitted.score(images_of(kind, "test", 256, model.image_shape))
    queue.put((peak_kilobytes() - before) / 1024)


def peak_kilobytes() -> int:
    """Return the largest memory of this process since its peak was reset."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1])


def report(
    kind: str, contenders: Contenders, batches: list[int], rounds: int, images: int, limits: tuple[float, float]
) -> list[dict[str, Any]]:  # Any: what JSON holds
    """Return one row for each contender of a model; `limits` are what `gigaflops` and `gigabytes` found."""
    with contextlib.redirect_stdout(io.StringIO()):  # kronfluence prints
        speeds = measure(contenders, batches, rounds, images)
    best = {name: max(of, key=lambda b: statistics.median(of[b])) for name, of in speeds.items() if of}
    rows = []
    for name, batch in best.items():
        to_floor, to_rose = (
            [a / b for a, b in zip(speeds[name][batch], speeds[other][best[other]], strict=True)]
            for other in ("plain floor", "rose-ekfac")
        )
        row: dict[str, Any] = {
            "model": kind,
            "contender": name,
            "best_batch": batch,
            "images_per_second": round(statistics.median(speeds[name][batch]), 2),
            "to_plain_floor": [round(f(to_floor), 3) for f in (statistics.median, min, max)],
            "to_rose_ekfac": round(statistics.median(to_rose), 3),
            "by_batch": {b: round(statistics.median(v), 2) for b, v in speeds[name].items()},
        }
        if name not in ONE_BY_ONE | {"kronfluence", "nngeometry"}:
            images_counted = images_of(kind, "test", 16, contenders.shape).to(contenders.model.device)
            counts = [count(contenders.work[name], images_counted) for count in (operations, traffic)]
            row["megaflops_an_image"], row["megabytes_an_image"] = (round(count, 1) for count in counts)
            row["share_of_sgemm"], row["share_of_copying"] = (
                round(count * statistics.median(speeds[name][batch]) / 1e3 / limit, 3)
                for count, limit in zip(counts, limits, strict=True)
            )
        if name in contenders.detectors and not name.startswith((*TRAINS, *REGRETS)):
            scoring = FIT_IMAGES / statistics.median(speeds[name][batch])
            row["fit_to_score"] = round(contenders.fit_seconds[name] / scoring, 2)
            if contenders.peaks and contenders.model.device.type == "cpu":
                context = multiprocessing.get_context("spawn")
                queue: multiprocessing.Queue[float] = context.Queue()
                process = context.Process(target=peak_memory, args=(kind, name, queue))
                process.start()
                row["peak_megabytes"] = round(queue.get())
                process.join()
        rows.append(row)
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """Print the rows as a table."""
    table = Table()
    to_others = ("images/s", "best batch", "/ plain floor", "/ rose")
    measured = (*to_others, "MFLOP", "of sgemm", "MB", "of copying", "fit / score", "peak MB")
    for heading in ("model", "contender", *measured):
        table.add_column(heading, justify="left" if heading in ("model", "contender") else "right")
    for row in rows:
        median, least, most = row["to_plain_floor"]
        table.add_row(
            str(row["model"]),
            str(row["contender"]),
            f"{row['images_per_second']:.1f}",
            str(row["best_batch"]),
            f"{median:.2f} ({least:.2f} to {most:.2f})",
            f"{row['to_rose_ekfac']:.3g}",
            str(row.get("megaflops_an_image", "")),
            f"{row['share_of_sgemm']:.0%}" if "share_of_sgemm" in row else "",
            str(row.get("megabytes_an_image", "")),
            f"{row['share_of_copying']:.0%}" if "share_of_copying" in row else "",
            str(row.get("fit_to_score", "")),
            str(row.get("peak_megabytes", "")),
        )
    Console(width=150).print(table)
    sys.stdout.flush()


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--model", default="", help=f"of {', '.join(MODELS)} [{','.join(USUAL)}; --quick: the first], or FILE=SET"
    )
    parser.add_argument("--detector", default=",".join(DETECTORS), help="`rose-ekfac` must be among them; or `all`")
    parser.add_argument("--batch", default="", help="batch sizes [1,4,16,64,256,1024; --quick: 1,16,64]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=256, help="images in one timing, at most [256; --quick: 64]")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--no-peers", action="store_true", help="leave out kronfluence and nngeometry, whose fits are long"
    )
    parser.add_argument("--quick", action="store_true", help="less of all: about 3 minutes on 2 cores")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = resolve_device(args.device)
    torch.backends.cudnn.allow_tf32 = False  # float32 for all, as oodkit scores
    models = args.model.split(",") if args.model else USUAL[: 1 if args.quick else None]
    batches = [int(b) for b in (args.batch or ("1,16,64" if args.quick else "1,4,16,64,256,1024")).split(",")]
    rounds, images = (min(args.rounds, 3), min(args.images, 64)) if args.quick else (args.rounds, args.images)
    rows, limits = [], (gigaflops(device), gigabytes(device))
    settings = {
        "date": str(date.today()),
        "device": device_name(device),
        "threads": args.threads,
        "torch": torch.__version__,
        "rounds": rounds,
        "batches": batches,
        "fitting_images": FIT_IMAGES,
        "sgemm_gigaflops": round(limits[0], 1),
        "copying_gigabytes": round(limits[1], 1),
    }
    if not args.json:
        print(", ".join(f"{key} {value}" for key, value in settings.items()))
    for kind in models:
        print(f"measuring {kind} …", file=sys.stderr)
        contenders = Contenders(kind, args.detector.split(","), device, not args.no_peers)
        of_model = report(kind, contenders, batches, rounds, images, limits)
        if not args.json:  # at once: where the time runs out, what is measured is there
            show(of_model)
        rows += of_model
    if args.json:
        print(json.dumps({**settings, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
