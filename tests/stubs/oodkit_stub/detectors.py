import os
import signal
from pathlib import Path

from pydantic import Field

from oodkit import Detector, DetectorOptions, ImageError

CALLS = []  # "fit" and "score", in order
STOP_AT = []  # Ctrl-C comes at the call of this number


class BrightnessOptions(DetectorOptions):
    scale: float = Field(1.0, gt=0, description="Scores are multiplied by this.")
    weights: tuple[float, ...] | None = Field(None, description="One for each channel.")


def work(kind):
    CALLS.append(kind)
    if len(CALLS) in STOP_AT:
        raise KeyboardInterrupt


class Brightness(Detector):
    def _fit(self, images):
        work("fit")
        return {"mean": images.images.double().mean()}

    def _score(self, images):
        if len(images) > 1:  # one: a look at what was loaded
            work("score")
        return images.float().flatten(1).mean(1) * getattr(self.options, "scale", 1.0)


class Darkness(Brightness):
    def _score(self, images):
        return -super()._score(images)


class Buggy(Brightness):
    def _score(self, images):
        if (images == 255).all():
            raise ZeroDivisionError("white images are not foreseen")
        return super()._score(images)


class Picky(Brightness):
    def _fit(self, images):
        work("fit")
        raise ImageError(f"{len(images)} images are too few for picky.")


class Undefined(Brightness):
    def _score(self, images):
        return super()._score(images) * float("nan")


class Neighbourly(Brightness):
    """Its score depends on the other images of the batch."""

    def _score(self, images):
        scores = super()._score(images)
        return scores - scores.mean()


class Lonely(Brightness):
    def _score(self, images):
        return super()._score(images) * (1.0 if len(images) > 1 else float("nan"))


class Mortal(Brightness):
    """Notes each fit in fits.txt; its process is killed once, in the middle of scoring, where kill-me lies."""

    def _fit(self, images):
        with Path("fits.txt").open("a") as file:
            file.write(f"{self.options.seed}\n")
        return super()._fit(images)

    def _score(self, images):
        if Path("kill-me").exists():
            Path("kill-me").unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._score(images)
