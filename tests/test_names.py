"""How images are called by `oodkit score` and `oodkit explain`, and which of a folder's files are images."""

from PIL import Image

from oodkit.cli import main

pytest_plugins = ["bench_fixtures"]


def test_a_folder_is_scored_of_the_files_that_it_is_loaded_from(stub, sets, capsys):
    """macOS puts a file of notes beside each picture, under a picture's name."""
    assert main("fit --detector light --id id.npz --out light.oodkit".split()) == 0
    for name in ("a.png", "b/c.png", "._a.png", "__MACOSX/a.png", ".cache/a.png"):
        (sets / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        if name.startswith(("a", "b")):
            Image.new("L", (32, 32), 9).save(sets / "pictures" / name)
        else:
            (sets / "pictures" / name).write_bytes(b"notes")
    capsys.readouterr()
    assert main("score pictures --detector-file light.oodkit".split()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["path,score", "pictures/a.png,9.0", "pictures/b/c.png,9.0"]
