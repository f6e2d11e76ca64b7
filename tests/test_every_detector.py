"""`oodkit bench --detector all`: every detector, small, in one run and one table."""

import json

from oodkit.cli import main
from oodkit.registry import registry

SMALL = [
    "vae.width=4", "vae.latent=8", "vae.epochs=1",
    "lr-e.steps=2", "lr-z.steps=2", "waic.members=2", "waic.epochs=1",
    *(f"{name}-full.limit=1000" for name in ("rose", "rose-plus", "score-test")),
    *(f"{name}.architecture=small" for name in registry().detectors if name.startswith("rnd")),
    *(f"{name}.epochs=1" for name in registry().detectors if name.startswith("rnd")),
]  # fmt: skip


def test_every_detector_in_one_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    settings = [part for text in SMALL for part in ("--set", text)]
    arguments = [
        "bench",
        "--detector",
        "all",
        "--ood",
        "noise,dimmed",
        "--limit",
        "10",
        "--train-limit",
        "60",
        *settings,
    ]
    assert main([*arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    ran = {cell["detector"] for cell in document["cells"]}
    # The exact Fisher of the encoder's heads is too large: left out with the reason, as nobody asked for it by name.
    too_large = {"rose-full", "rose-plus-full", "score-test-full"}
    assert set(document["left_out"]) == too_large and all("limit" in why for why in document["left_out"].values())
    assert ran == set(registry().detectors) - too_large
    assert not document["failures"]
