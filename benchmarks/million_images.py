"""Memory while one detector scores a million images: `python benchmarks/million_images.py [COUNT]`.

The images are drawn and dropped a shard at a time, as in a long run; what is printed is the resident memory after each
tenth, in MiB.
"""

import sys
import time
from pathlib import Path

import torch

import oodkit

SHARD = 10_000


def resident() -> int:
    """Return the resident memory of this process, MiB (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    generator = torch.Generator().manual_seed(0)
    first = torch.randint(0, 256, (500, 1, 8, 8), generator=generator, dtype=torch.uint8)
    model = oodkit.create_model("classifier", (1, 8, 8), device="cpu", width=1)
    detector = oodkit.create_detector("rose-diag", model, batch_size=1000).fit(first)
    start, done, total = time.perf_counter(), 0, 0.0
    print(f"start: {resident()} MiB")
    while done < count:
        images = torch.randint(0, 256, (min(SHARD, count - done), 1, 8, 8), generator=generator, dtype=torch.uint8)
        total += float(detector.score(images).double().sum())
        done += len(images)
        if done % max(SHARD, count // 10) == 0:
            print(f"{done:>9,} images: {resident()} MiB, {time.perf_counter() - start:.0f} s", flush=True)
    print(f"mean score: {total / count:.6g}")


if __name__ == "__main__":
    main()
