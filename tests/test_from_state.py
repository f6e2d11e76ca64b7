"""`Detector.from_state`: what scoring makes of the state is made once for each state."""

import pytest
import torch

import oodkit
from oodkit.testing import blobs

PLUGIN = """
from oodkit import DetectorSpec, hookimpl

@hookimpl
def oodkit_detectors():
    return [DetectorSpec(name="subject", target="oodkit_subject.subject:Subject", summary="", model="none")]
"""
DETECTOR = """
from oodkit import Detector

MADE = []

class Subject(Detector):
    def _fit(self, images):
        return {"mean": images.images.double().mean()}

    def _score(self, images):
        return images.double().mean((1, 2, 3)) - self.from_state(self._mean)

    def _mean(self):
        MADE.append(float(self.state["mean"]))
        return MADE[-1]
"""


def test_it_is_made_once_and_again_after_fit_or_load(install, tmp_path):
    install("oodkit-subject", PLUGIN, subject=DETECTOR)
    first, second = blobs(8), blobs(8, seed=1)
    detector = oodkit.create_detector("subject", device="cpu", batch_size=3).fit(first)
    from oodkit_subject.subject import MADE

    means = [float(images.images.double().mean()) for images in (first, second)]
    scores = detector.score(first)
    detector.score(second)
    assert MADE == pytest.approx(means[:1])
    detector.save(tmp_path / "first.oodkit")
    assert detector.fit(second).score(first).sum() == pytest.approx(8 * (means[0] - means[1]), abs=1e-3)
    assert MADE == pytest.approx(means)
    again = oodkit.load_detector(tmp_path / "first.oodkit", device="cpu")
    assert torch.equal(again.score(first), scores)
    assert MADE == pytest.approx([*means, means[0]])


def test_a_plugin_that_hides_what_is_kept_is_refused(install):
    install("oodkit-subject", PLUGIN, subject=DETECTOR.replace("_mean", "_made"))
    with pytest.raises(oodkit.PluginError, match="Subject defines '_made'"):
        oodkit.create_detector("subject")
