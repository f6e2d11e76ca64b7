"""The authors' trained VAEs and scores, where a copy of them is at hand: what the paper's figures are checked against.

OODKIT_REFERENCE is the folder that has them: `weights/vae-*.safetensors` and `scores.npz`.
"""

import os
import sys
from pathlib import Path

from safetensors.torch import load_file

import oodkit

HOLDS = {
    "OODKIT_REFERENCE": "the folder with the authors' weights and scores",
    "OODKIT_DATA": "the folder with the image sets",
}

# our module -> theirs, for a VAE of width n with nz latent dimensions and c channels
NAMES = {
    "trunk.0": "encoder.main.input-conv",
    "trunk.1": "encoder.main.input-BN",
    "trunk.3": "encoder.main.pyramid:{n}-{n2}:conv",
    "trunk.4": "encoder.main.pyramid:{n2}:batchnorm",
    "trunk.6": "encoder.main.pyramid:{n2}-{n4}:conv",
    "trunk.7": "encoder.main.pyramid:{n4}:batchnorm",
    "mean": "encoder.conv1",
    "log_variance": "encoder.conv2",
    "decoder.0": "decoder.main.initial:{nz}-{n4}:convt",
    "decoder.1": "decoder.main.initial:{n4}:batchnorm",
    "decoder.3": "decoder.main.pyramid:{n4}-{n2}:convt",
    "decoder.4": "decoder.main.pyramid:{n2}:batchnorm",
    "decoder.6": "decoder.main.pyramid:{n2}-{n}:convt",
    "decoder.7": "decoder.main.pyramid:{n}:batchnorm",
    "decoder.9": "decoder.main.final:{n}-{c}:convt",
}


def folder_of(variable: str) -> Path:
    """Return the folder that an environment variable names; where it names none, the program ends with a sentence."""
    if not (named := os.environ.get(variable)):
        sys.exit(f"{variable} is not set; it must be {HOLDS[variable]}.")
    if not Path(named).is_dir():
        sys.exit(f"{variable} is {named}, and there is no such folder; it must be {HOLDS[variable]}.")
    return Path(named)


def reference_vae(name: str) -> oodkit.GenerativeModel:
    """Return one of the authors' VAEs ("fashion-mnist-n32-z100-seed1", …) as ours, on the CPU."""
    theirs = load_file(folder_of("OODKIT_REFERENCE") / "weights" / f"vae-{name}.safetensors")
    n, c = theirs["encoder.main.input-conv.weight"].shape[:2]
    nz = theirs["encoder.conv1.weight"].shape[0]
    model = oodkit.create_model("vae", (c, 32, 32), width=n, latent=nz, device="cpu")
    names = {ours: text.format(n=n, n2=2 * n, n4=4 * n, nz=nz, c=c) for ours, text in NAMES.items()}
    weights = {}
    for key in model.state_dict():
        module, _, parameter = key.rpartition(".")
        weights[key] = theirs.pop(f"{names[module]}.{parameter}")
    assert not theirs, f"weights that no part of ours took: {sorted(theirs)}"
    model.load_state_dict(weights)
    return model.eval()
