"""What a program may expect of any library: ==, the umask, and one sentence where a mistake was made."""

import os
import stat

import numpy as np
import pytest
import torch

import oodkit
from oodkit.explanation import occlusion_map
from oodkit.testing import blobs

PLUGIN = """
from oodkit import {kind}Spec, hookimpl

@hookimpl
def oodkit_{kinds}():
    return [{kind}Spec(name="subject", target="oodkit_subject.subject:Subject", summary="for a test"{more})]
"""


@pytest.fixture
def umask():
    """A function that sets the umask until the test ends."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o007, 0o660), (0o077, 0o600)])
def test_saved_files_have_the_permissions_that_the_umask_leaves(umask, mask, mode, tmp_path):
    umask(mask)
    model = oodkit.create_model("vae", (1, 32, 32), width=2, latent=2, device="cpu")
    model.save(tmp_path / "vae.oodkit")
    oodkit.create_detector("elbo", model).fit(blobs(3)).save(tmp_path / "elbo.oodkit")
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {mode}
    assert {path.name for path in tmp_path.iterdir()} == {"vae.oodkit", "elbo.oodkit"}


def test_sets_and_explanations_can_be_compared_and_kept_in_sets():
    detector = oodkit.create_detector("complexity").fit(blobs(20))
    for one, other in ((blobs(3), blobs(3)), (detector.explain(blobs(3)), detector.explain(blobs(3)))):
        assert one == one and one != other
        assert len({one, other, one}) == 2


@pytest.mark.parametrize("channels", [3, 4])
def test_an_array_that_may_be_one_colour_picture_is_refused(channels):
    picture = np.random.default_rng(0).integers(256, size=(24, 20, channels), dtype=np.uint8)
    with pytest.raises(oodkit.ImageError, match=r"may be one colour picture.*images\[None\].*images\[:, None\]"):
        oodkit.load_images(picture)
    assert oodkit.load_images(picture[:, None]).images.shape == (24, 1, 20, channels)


def test_the_first_way_out_of_it_is_one_picture():
    picture = np.random.default_rng(0).integers(256, size=(24, 20, 3), dtype=np.uint8)
    loaded = oodkit.load_images(picture[None])
    assert torch.equal(loaded.images[0], torch.from_numpy(picture).permute(2, 0, 1))


MAKE = {
    "Detector": lambda: oodkit.create_detector("subject"),
    "Model": lambda: oodkit.create_model("subject", (1, 8, 8)),
}


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("raised", ["ValueError('no such backend')", "RuntimeError('no such backend')"])
def test_a_plugin_that_fails_while_it_is_imported_is_one_sentence(install, kind, raised):
    more = ", model='none'" if kind == "Detector" else ""
    install("oodkit-subject", PLUGIN.format(kind=kind, kinds=f"{kind.lower()}s", more=more), subject=f"raise {raised}")
    said = rf"subject: cannot load 'oodkit_subject.subject:Subject': {raised.partition('(')[0]}: no such backend\. "
    with pytest.raises(oodkit.PluginError, match=said):
        MAKE[kind]()


def test_a_patch_that_covers_the_whole_image_is_refused():
    detector = oodkit.create_detector("complexity").fit(blobs(20))
    with pytest.raises(oodkit.OptionError, match="patch is 32, the whole image"):
        occlusion_map(detector, blobs(1).images[0], 32)
