"""Images/s of `lr-e` against the loop of the literature, one image at a time, and against ROSE, in the same run.

    python benchmarks/likelihood_regret_speed.py [--rounds 5] [--threads 2] [--device cpu] [--cpu-time]
                                                 [--model fashion-mnist.oodkit --id fashion-mnist]

The VAE has the paper's size and no training, and the images are noise; or it is that of --model, and the images those
of --id. It makes a difference: a trained decoder gives subnormal probabilities, which processors multiply slowly. The
contenders take turns, so that whatever else the machine does meets all of them; what counts is the ratio, by the median
of the rounds.

- `loop`: as the authors' code does it. A copy of the encoder and an Adam for each image, in torch's default memory
  layout; the decoder, shared, takes gradients of its own weights too, which nobody reads.
- `our loop`: the same through oodkit's VAE (channels last), without those gradients.
- `lr-e`: all images at once.
- `lr-e, bfloat16`: the same with the option `bfloat16`.
- `lr-z`: the same steps without the encoder's share of them, and so the most that `lr-e` could reach.

With `--cpu-time`, one thread's CPU seconds count instead of the clock: for a machine that others use at the same time.
"""

import argparse
import copy
import math
import statistics
import time
from collections.abc import Callable
from datetime import date

import torch
from torch import Tensor
from torch.nn import functional as F

import oodkit
from oodkit.device import device_name, resolve_device

STEPS, SAMPLES, RATE, DECAY = 100, 20, 1e-4, 5e-5


def literature(model: oodkit.GenerativeModel, image: Tensor) -> float:
    """Return the regret of one image (1, 1, 32, 32), by plain torch on the layers of the VAE."""
    x, target = image / 255, image.flatten().long()

    def encode(trunk: torch.nn.Module, mean: torch.nn.Module, log_variance: torch.nn.Module) -> tuple[Tensor, Tensor]:
        h = trunk(x)
        return mean(h), log_variance(h)

    def log_p(z: Tensor) -> Tensor:
        logits = model.decoder(z).view(-1, 1, 256, 32, 32).permute(0, 1, 3, 4, 2).reshape(-1, 256)
        return -F.cross_entropy(logits, target.repeat(len(z)), reduction="none").view(len(z), -1).sum(1)

    @torch.no_grad()
    def log_likelihood(mean: Tensor, log_variance: Tensor) -> float:
        eps = torch.randn(SAMPLES, *mean.shape[1:], device=x.device)
        z = mean + (0.5 * log_variance).exp() * eps
        ratio = 0.5 * (eps.square() + log_variance - z.square()).flatten(1).sum(1)
        return ((log_p(z) + ratio).logsumexp(0) - math.log(SAMPLES)).item()

    encoder = copy.deepcopy([model.trunk, model.mean, model.log_variance])
    adam = torch.optim.Adam([p for m in encoder for p in m.parameters()], lr=RATE, weight_decay=DECAY)
    before = log_likelihood(*encode(*encoder))
    for _ in range(STEPS):
        mean, log_variance = encode(*encoder)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        loss = -log_p(z).sum() - 0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return log_likelihood(*encode(*encoder)) - before


def our_loop(model: oodkit.LatentVariableModel, image: Tensor) -> float:
    """Return the regret of one image through `encode` and `log_prob_given`; the decoder's weights are frozen."""
    noise = torch.randn(SAMPLES + STEPS, 1, model.options.latent, device=image.device)
    encoder = copy.deepcopy(model)
    encoder.decoder.requires_grad_(False)
    adam = torch.optim.Adam([p for p in encoder.parameters() if p.requires_grad], lr=RATE, weight_decay=DECAY)
    with torch.no_grad():
        before = oodkit.importance_weighted(encoder, image, *encoder.encode(image), noise[:SAMPLES])
    for eps in noise[SAMPLES:]:
        mean, log_variance = encoder.encode(image)
        z = mean + (0.5 * log_variance).exp() * eps
        loss = oodkit.kl_divergence(mean, log_variance) - encoder.log_prob_given(image, z)
        adam.zero_grad()
        loss.sum().backward()
        adam.step()
    with torch.no_grad():
        after = oodkit.importance_weighted(encoder, image, *encoder.encode(image), noise[:SAMPLES])
    return (after - before).item()


def seconds(work: Callable[[], object], device: torch.device, clock: Callable[[], float]) -> float:
    """Return how long `work` takes, with all that it left on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = clock()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - start


def main() -> None:
    """Print a table of images/s."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="auto")
    parser.add_argument("--images-at-once", type=int, default=None)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--model", help="a file that `oodkit train` wrote, of a VAE")
    parser.add_argument("--id", default="fashion-mnist", help="the images that --model scores")
    args = parser.parse_args()
    torch.set_num_threads(1 if args.cpu_time else args.threads)
    clock = time.process_time if args.cpu_time else time.perf_counter
    device = resolve_device(args.device)
    count = args.images_at_once or (128 if device.type == "cuda" else 64)

    if args.model:
        model = oodkit.load_model(args.model, device=device)
        images = oodkit.load_images(args.id, "test", limit=count, image_shape=model.image_shape).images
    else:
        model = oodkit.create_model("vae", (1, 32, 32), device=device, width=32, latent=100).eval()
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (count, 1, 32, 32), dtype=torch.uint8, generator=generator)
    plain = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
    on_device = images.to(device)
    regret = oodkit.create_detector("lr-e", model, images_at_once=count, batch_size=count).fit(images)
    low = oodkit.create_detector("lr-e", model, images_at_once=count, batch_size=count, bfloat16=True).fit(images)
    latent = oodkit.create_detector("lr-z", model, images_at_once=count, batch_size=count).fit(images)
    rose = oodkit.create_detector("rose-ekfac", model).fit(images.repeat(4, 1, 1, 1))
    many = images.repeat(4, 1, 1, 1)
    contenders = {
        "loop": (1, lambda: literature(plain, on_device[:1])),
        "our loop": (1, lambda: our_loop(model, on_device[:1])),
        "lr-e": (count, lambda: regret.score(images)),
        "lr-e, bfloat16": (count, lambda: low.score(images)),
        "lr-z": (count, lambda: latent.score(images)),
        "rose-ekfac": (len(many), lambda: rose.score(many)),
    }
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(args.rounds + 1):
        for name, (n, work) in contenders.items():
            speed = n / seconds(work, device, clock)
            if number:  # the first round warms up
                speeds[name].append(speed)
    unit = ", CPU time" if args.cpu_time else ""
    print(f"{date.today()}, {device_name(device)}{unit}, torch {torch.__version__}, {args.rounds} rounds")
    source = f"{args.model} on {args.id}" if args.model else "an untrained VAE on noise"
    print(f"{source}; {STEPS} steps, {SAMPLES} samples, {count} images at once")
    for name, values in speeds.items():
        print(
            f"{name:14s} {statistics.median(values):9.3f} images/s   (rounds: {min(values):.3f} to {max(values):.3f})"
        )
    for one, other in (
        ("lr-e", "loop"),
        ("lr-e, bfloat16", "loop"),
        ("lr-z", "loop"),
        ("lr-e", "our loop"),
        ("lr-e", "rose-ekfac"),
    ):
        ratios = [a / b for a, b in zip(speeds[one], speeds[other], strict=True)]
        name = f"{one} / {other}"
        print(f"{name:23s} {statistics.median(ratios):9.4f}, rounds {min(ratios):.4f} to {max(ratios):.4f}")
    if args.model:
        other = oodkit.create_detector("lr-e", model, images_at_once=count, batch_size=count, seed=1).fit(images)
        exact = regret.score(images)
        moved = {"bfloat16": low.score(images) - exact, "another seed": other.score(images) - exact}
        changes = ", ".join(f"{name} moves them by {change.std():.2f}" for name, change in moved.items())
        print(f"scores of lr-e on these images, nats: deviation {exact.std():.1f}; {changes} (deviation)")


if __name__ == "__main__":
    main()
