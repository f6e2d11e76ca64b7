"""Detectors in scikit-learn's manner: its own checks, a pipeline, cross-validation."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import check_estimator

import oodkit
from oodkit.sklearn import OODEstimator

PLUGIN = """
from oodkit import DetectorSpec, hookimpl

@hookimpl
def oodkit_detectors():
    return [DetectorSpec(name="distance", target="oodkit_distance.detector:Distance", summary="", model="none")]
"""
DETECTOR = """
from oodkit import Detector, DetectorOptions

class Distance(Detector[DetectorOptions]):
    def _fit(self, images):
        return {"mean": self.per_image(lambda batch: batch.double(), images).mean(0)}

    def _score(self, images):
        return (images.double() - self.state["mean"]).square().mean((1, 2, 3))
"""
X, _ = load_digits(return_X_y=True)
NOISE = np.random.default_rng(0).uniform(0, 16, size=(100, 64))


@pytest.fixture
def distance(install):
    install("oodkit-distance", PLUGIN, detector=DETECTOR)
    return OODEstimator("distance", None, value_range="fit", device="cpu")


def of_digits(**changes):
    settings = {"image_shape": (1, 8, 8), "value_range": (0, 16), "device": "cpu"}
    return OODEstimator("distance", None, **{**settings, **changes})


ON_A_VAE = {"model": "vae", "resize": (1, 32, 32), "model_options": {"epochs": 0, "width": 2, "latent": 2}}
# The check allows 1e-7; a float32 network rounds by as much, in another way for each size of a batch.
ROUNDED = {"check_methods_subset_invariance": "the row that set the threshold falls on either side of it"}


@pytest.mark.filterwarnings("ignore")  # what the checks warn of is theirs
@pytest.mark.parametrize(
    ("name", "settings", "but"), [("distance", {}, {}), ("complexity", {}, {}), ("rose-diag", ON_A_VAE, ROUNDED)]
)
def test_scikit_learns_own_checks(distance, name, settings, but):
    estimator = clone(distance).set_params(detector=name, **settings)
    results = check_estimator(estimator, on_skip=None, on_fail=None, expected_failed_checks=but)
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    assert failed == {}, failed
    assert sum(r["status"] == "passed" for r in results) > 30


def test_noise_is_an_outlier_and_digits_are_not(distance):
    estimator = of_digits(alpha=0.1).fit(X[:1000])
    assert (estimator.predict(NOISE) == -1).mean() > 0.9
    assert (estimator.predict(X[1000:]) == -1).mean() == pytest.approx(0.1, abs=0.05)


def test_signs_are_scikit_learns(distance):
    estimator = of_digits().fit(X[:300])
    scores = estimator.detector_.score(
        oodkit.load_images((X[300:400] / 16 * 255).round().astype(np.uint8).reshape(-1, 8, 8))
    )
    np.testing.assert_allclose(estimator.score_samples(X[300:400]), -scores.numpy())
    decision = estimator.decision_function(X[300:400])
    np.testing.assert_allclose(decision, estimator.score_samples(X[300:400]) - estimator.offset_)
    assert ((decision < 0) == (estimator.predict(X[300:400]) == -1)).all()


def test_in_a_pipeline_with_cross_validation_and_a_grid(distance):
    pipeline = make_pipeline(MinMaxScaler((0, 16), clip=True), of_digits())

    def share_told_apart(estimator, rows, _):
        return (estimator.score_samples(rows)[:, None] > estimator.score_samples(NOISE)[None]).mean()

    assert cross_val_score(pipeline, X[:300], cv=3, y=np.ones(300), scoring=share_told_apart).min() > 0.9
    found = GridSearchCV(of_digits(), {"alpha": [0.05, 0.2]}, scoring=lambda e, x, y: (e.predict(x) == 1).mean(), cv=2)
    assert found.fit(X[:200], np.ones(200)).best_params_ == {"alpha": 0.05}


def test_a_model_is_trained_where_the_detector_needs_one():
    estimator = OODEstimator(
        "elbo",
        "vae",
        image_shape=(1, 8, 8),
        resize=(1, 32, 32),
        value_range=(0, 16),
        model_options={"epochs": 2, "width": 4, "latent": 4},
        device="cpu",
    ).fit(X[:300])
    assert estimator.score_samples(X[300:350]).mean() > estimator.score_samples(NOISE).mean()
    # a model that is trained already is used as it is
    again = OODEstimator("elbo", estimator.detector_.model, **{
        key: value for key, value in estimator.get_params().items() if key not in ("detector", "model")
    }).fit(X[:300])  # fmt: skip
    np.testing.assert_array_equal(again.score_samples(X[300:350]), estimator.score_samples(X[300:350]))


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"image_shape": (1, 9, 9)}, oodkit.ImageError, "64 features, and image_shape .* makes 81"),
        ({"value_range": (0, 1)}, oodkit.ImageError, "not all within value_range"),
        ({"alpha": 1.5}, oodkit.OptionError, "alpha is 1.5"),
        ({"calibration_share": 0}, oodkit.OptionError, "calibration_share is 0"),
        ({"detector_options": {"nothing": 1}}, oodkit.OptionError, "no option 'nothing'"),
    ],
)
def test_mistakes_are_one_sentence(distance, changes, error, said):
    with pytest.raises(error, match=said):
        of_digits(**changes).fit(X[:50])
