"""Saved files: whole or not there, refused when damaged, and never a way to run code."""

import json
import os
import pickle

import pytest
import torch
from hypothesis import given, strategies as st
from safetensors.torch import save, save_file

import oodkit
from oodkit.artifact import read_artifact, write_artifact
from oodkit.testing import blobs


@pytest.fixture(scope="module")
def model_bytes(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.oodkit"
    oodkit.create_model("vae", (1, 32, 32), width=2, latent=2, device="cpu").save(path)
    return path.read_bytes()


def test_what_was_written_is_read(tmp_path):
    tensors = {"a": torch.arange(6).reshape(2, 3).T, "b": torch.tensor(2.5, dtype=torch.float64), "c": torch.zeros(0)}
    write_artifact(tmp_path / "x", "scores", {"name": "ŝ"}, tensors)
    header, again = read_artifact(tmp_path / "x", "scores")
    assert header["name"] == "ŝ"
    for name, tensor in tensors.items():
        torch.testing.assert_close(again[name], tensor, rtol=0, atol=0)
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "damaged"),
        (b"not a safetensors file at all", "damaged"),
        (pickle.dumps({"a": 1}), "damaged"),
        (save({"a": torch.zeros(2)}), "did not write"),
        (save({"a": torch.zeros(2)}, {"oodkit": "{not json"}), "header is damaged"),
        (save({"a": torch.zeros(2)}, {"oodkit": "[]"}), "header is damaged"),
        (save({"a": torch.zeros(2)}, {"oodkit": json.dumps({"kind": "scores", "format": 1})}), "holds a scores"),
        (save({"a": torch.zeros(2)}, {"oodkit": json.dumps({"kind": "model", "format": 99})}), "newer oodkit"),
        (save({"a": torch.zeros(2)}, {"oodkit": json.dumps({"kind": "model", "format": 1})}), "not installed"),
        (
            save({"a": torch.zeros(2)}, {"oodkit": json.dumps({"kind": "model", "format": 1, "model": "vae"})}),
            "do not fit",
        ),
    ],
)
def test_a_file_that_is_no_model_is_refused_in_one_sentence(tmp_path, content, said):
    path = tmp_path / "model.oodkit"
    path.write_bytes(content)
    with pytest.raises(oodkit.ArtifactError, match=said):
        oodkit.load_model(path)


@given(
    cut=st.booleans(),
    # the header, where structure lies, more often than the weights
    region=st.sampled_from([8, 2000, 1_000_000]),
    place=st.integers(0, 1_000_000),
    bit=st.integers(0, 7),
)
def test_a_cut_or_flipped_file_is_refused_or_still_a_model(model_bytes, tmp_path_factory, cut, region, place, bit):
    """A flipped bit in a weight cannot be seen; anything else must be refused, and nothing else may be raised."""
    damaged = bytearray(model_bytes)
    place %= min(region, len(damaged))
    if cut:
        del damaged[place:]
    else:
        damaged[place] ^= 1 << bit
    path = tmp_path_factory.mktemp("damaged") / "model.oodkit"
    path.write_bytes(bytes(damaged))
    try:
        model = oodkit.load_model(path, device="cpu")
    except oodkit.OodkitError:
        return
    assert model.image_shape == (1, 32, 32)


def test_no_folder_and_no_file_are_said(tmp_path):
    with pytest.raises(oodkit.ArtifactError, match="there is no file"):
        oodkit.load_detector(tmp_path / "none")
    with pytest.raises(oodkit.ArtifactError, match="cannot write"):
        write_artifact(tmp_path / "none" / "x", "model", {}, {})


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    write_artifact(tmp_path / "x", "scores", {"n": 1}, {})

    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(oodkit.ArtifactError, match="No space left"):
        write_artifact(tmp_path / "x", "scores", {"n": 2}, {})
    assert read_artifact(tmp_path / "x", "scores")[0]["n"] == 1
    assert os.listdir(tmp_path) == ["x"]


def test_weights_that_are_not_finite_are_refused(tmp_path):
    model = oodkit.create_model("vae", (1, 32, 32), width=2, latent=2, device="cpu")
    with torch.no_grad():
        model.mean.weight[0, 0, 0, 0] = torch.nan
    model.save(tmp_path / "nan")
    with pytest.raises(oodkit.TrainingError, match=r"mean\.weight"):
        oodkit.load_model(tmp_path / "nan")
    with pytest.raises(oodkit.TrainingError, match=r"mean\.weight"):
        oodkit.create_detector("elbo", model).fit(blobs(4))


def test_a_detector_file_is_not_a_model(tmp_path):
    model = oodkit.create_model("vae", (1, 32, 32), width=2, latent=2, device="cpu")
    oodkit.create_detector("elbo", model).fit(blobs(4)).save(tmp_path / "d")
    with pytest.raises(oodkit.ArtifactError, match="holds a detector, not a model"):
        oodkit.load_model(tmp_path / "d")


def test_a_detector_of_a_plugin_that_is_gone(tmp_path):
    save_file({}, tmp_path / "d", {"oodkit": json.dumps({"kind": "detector", "format": 1, "detector": "lost"})})
    with pytest.raises(oodkit.ArtifactError, match=r"'lost'.*not installed"):
        oodkit.load_detector(tmp_path / "d")


def test_devices():
    with pytest.raises(oodkit.DeviceError, match="no device"):
        oodkit.create_model("vae", (1, 32, 32), device="gpu")
    with pytest.raises(oodkit.DeviceError, match="cuda:63"):
        oodkit.create_model("vae", (1, 32, 32), device="cuda:63")
    with pytest.raises(oodkit.DeviceError, match="meta"):
        oodkit.create_model("vae", (1, 32, 32), device="meta")


def test_a_float64_model_stays_one(tmp_path):
    model = oodkit.create_model("vae", (1, 32, 32), width=2, latent=2, device="cpu").double()
    detector = oodkit.create_detector("rose-diag", model).fit(blobs(8))
    detector.save(tmp_path / "d")
    again = oodkit.load_detector(tmp_path / "d", device="cpu")
    torch.testing.assert_close(again.score(blobs(3)), detector.score(blobs(3)))
