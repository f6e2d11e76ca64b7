"""Where the time of scoring goes: the share of each kind of operation, and of each step, as torch's profiler sees them.

    python benchmarks/where_time_goes.py [--model vae-grey] [--detector rose-ekfac,elbo] [--batch 64] [--threads 2]

The models of speed.py and its images (noise, or those of --model FILE=SET), ten batches after a first that warms up. An
operation's time is its own, without that of the operations that it calls; on a GPU, that of its kernels.
"""

import argparse
from collections import Counter
from datetime import date

import torch
from contenders import FIT_IMAGES, MODELS, images_of, make_detector, model_of
from torch.profiler import ProfilerActivity, profile

from oodkit.device import device_name, resolve_device

# the first kind whose words are found in an operation's name
KINDS = {
    "convolutions, forward and backward": ("conv", "thnn"),
    "matrix products": ("mm", "dot", "linalg"),
    "softmax and its sums": ("softmax", "_logcategorical", "logsumexp", "amax", "gather", "scatter"),
    "patches (unfold) and copies": ("im2col", "col2im", "copy", "aten::cat", "clone", "pad", "contiguous", "fill",
                                    "zero"),
    "element by element": ("mul", "add", "sub", "div", "neg", "pow", "exp", "log", "sqrt", "sum", "norm", "relu",
                           "threshold", "clamp", "sigmoid", "tanh", "square"),
}  # fmt: skip


def kind_of(operation: str) -> str:
    """Return the kind of an operation, by its name."""
    name = operation.lower()
    return next((kind for kind, words in KINDS.items() if any(word in name for word in words)), "all else")


def main() -> None:
    """Print one table for each detector."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="vae-grey", help=f"of {', '.join(MODELS)}, or FILE=SET")
    parser.add_argument("--detector", default="rose-ekfac,rose-diag,elbo")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = resolve_device(args.device)
    model = model_of(args.model, device)
    fitting = images_of(args.model, "train", FIT_IMAGES, model.image_shape)
    images = images_of(args.model, "test", 10 * args.batch, model.image_shape)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    print(f"{date.today()}, {device_name(device)}, torch {torch.__version__}, {args.model}, batches of {args.batch}")
    for detector_name in args.detector.split(","):
        detector = make_detector(detector_name, model, args.batch).fit(fitting)
        detector.score(images[: args.batch])
        with profile(activities=activities) as profiled:
            detector.score(images)
        times: Counter[str] = Counter()
        for event in profiled.key_averages():
            on_device = event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total
            times[kind_of(event.key)] += on_device
        print(f"\n| {detector_name} | share of the time | ms an image |\n| --- | --- | --- |")
        for kind, microseconds in times.most_common():
            print(f"| {kind} | {microseconds / times.total():.0%} | {microseconds / 1e3 / len(images):.3f} |")


if __name__ == "__main__":
    main()
