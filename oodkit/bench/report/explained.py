"""Why the highest-scoring images of a run look strange: what the fitted detectors, kept in its folder, say of them."""

from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from oodkit.bench.report.runs import Runs, Series
from oodkit.errors import ArtifactError, PluginError
from oodkit.explanation import Number, draw_map, occlusion_map
from oodkit.named_detectors import load_detector

__all__ = ["SIDE", "Explained", "explained"]

IMAGES = 2  # of each set: a map costs a score for each of its patches
NUMBERS = 4  # of each image
SIDE = 96  # pixels, of each of the two pictures


@dataclass(frozen=True)
class Explained:
    """One image: what `draw_map` makes of it, and the numbers that matter most."""

    picture: Image.Image
    numbers: list[Number]


def explained(runs: Runs, one: Series, sets: list[str]) -> Iterator[tuple[str, list[Explained]]]:
    """Yield OOD sets with their highest-scoring images, first seed; none where the detector cannot explain its score.

    Raises:
        ArtifactError: the fitted detector is not in the run folder, or cannot be loaded.
    """
    hashes = {ood: one.cells[ood][0].hashes for ood in sets if ood in one.cells}
    kept = {ood: scores for ood, of in hashes.items() if (scores := runs.scores(of.get("ood_scores", ""))) is not None}
    if not kept:
        return
    key = hashes[next(iter(kept))].get("detector", "")
    files = [folder / "detectors" / f"{key}.safetensors" for folder in runs.folders]
    file = next((file for file in files if file.exists()), None)
    if file is None:
        raise ArtifactError(f"the fitted {one.detector} is not in the run folder.")
    detector = load_detector(file)
    for ood, scores in kept.items():
        images = scores.highest[:IMAGES]
        try:
            explanation = detector.explain(images)
        except PluginError:  # its score is one number
            return
        maps = [draw_map(image, occlusion_map(detector, image), SIDE) for image in images]
        yield ood, [Explained(drawn, explanation.largest(i, NUMBERS)) for i, drawn in enumerate(maps)]
