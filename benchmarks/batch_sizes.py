"""How far scores depend on the batch size, in float32: Markdown on stdout.

python benchmarks/batch_sizes.py [DETECTOR ...]
"""

import argparse

import torch

import oodkit
from oodkit.bench.metrics import auroc

SIZES = (1, 7, 32, 200)
DETECTORS: dict[str, dict[str, object]] = {
    "rose-ekfac": {},
    "rose-diag": {},
    "rose-plus-ekfac": {},
    "elbo": {},
    "nll": {},
    "ic-png": {},
    "lr-e": {"steps": 3},
    "lr-z": {"steps": 3},
    "statistics-density": {},
    "rnd-svd": {"architecture": "small", "epochs": 4},
}


def main() -> None:
    parser = argparse.ArgumentParser(description="How far scores depend on the batch size, in float32.")
    parser.add_argument("detectors", nargs="*", metavar="DETECTOR", help=f"of {', '.join(DETECTORS)}; default: all")
    names = parser.parse_args().detectors or list(DETECTORS)
    if unknown := set(names) - set(DETECTORS):
        parser.error(f"no options are known here for {', '.join(sorted(unknown))}")
    train = oodkit.load_images("digits", split="train", limit=600)
    known, photos = (oodkit.load_images(name, limit=100, image_shape=(1, 32, 32)) for name in ("digits", "photos"))
    model = oodkit.train_model("vae", train, width=4, latent=4, epochs=4, device="cpu")
    images = torch.cat([known.images, photos.images])
    print(f"digits against photos, 100 images each; batches of {', '.join(map(str, SIZES))}; {torch.__version__}\n")
    print("| detector | greatest difference, share of the score | difference of AUROC |\n| --- | --- | --- |")
    for name in names:
        detector = oodkit.create_detector(name, model, device="cpu", **DETECTORS[name]).fit(train)
        found = []
        for size in SIZES:
            detector.batch_size = size
            found.append(detector.score(images).double())
        scores = torch.stack(found)  # (sizes, 200)
        spread = scores[0, :100].std()
        share = ((scores.amax(0) - scores.amin(0)) / scores[0].abs().maximum(spread)).max()
        areas = [auroc(one[:100], one[100:]) for one in scores]
        print(f"| {name} | {share:.1e} | {max(areas) - min(areas):.1e} |", flush=True)


if __name__ == "__main__":
    main()
