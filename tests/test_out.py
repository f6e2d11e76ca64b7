"""Where results are written: through links, and only where a file is or nothing."""

import os
import stat

import numpy as np
import pytest

from oodkit.artifact import write_atomically
from oodkit.cli import main
from oodkit.errors import ArtifactError

pytest_plugins = ["bench_fixtures"]


def test_a_link_is_followed_and_stays(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "old").write_bytes(b"old")
    (tmp_path / "link").symlink_to("there/old")
    (tmp_path / "new").symlink_to("there/new")
    for name in ("link", "new"):
        write_atomically(tmp_path / name, b"data")
        assert (tmp_path / name).is_symlink()
    assert [p.read_bytes() for p in (tmp_path / "there").iterdir()] == [b"data", b"data"]


@pytest.mark.usefixtures("stub", "sets")
def test_a_device_is_not_replaced_by_a_file(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to(os.devnull)
    for name in ("pipe", "null"):
        with pytest.raises(ArtifactError, match="it is a device or a pipe"):
            write_atomically(tmp_path / name, b"data")
        for command in (f"fit --detector light --id id.npz --out {name}", f"perturb --count 1 --out {name}"):
            assert main(command.split()) == 2
            assert f"cannot write {name}" in capsys.readouterr().err
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode) and (tmp_path / "null").is_symlink()


def test_what_was_written_outlasts_a_power_cut(tmp_path, monkeypatch):
    """No power is cut here: the file must be flushed before it is renamed, and its folder after that."""
    events = []
    replace = os.replace
    monkeypatch.setattr(os, "fsync", lambda opened: events.append(stat.S_ISDIR(os.fstat(opened).st_mode)))
    monkeypatch.setattr(os, "replace", lambda *paths: (events.append("rename"), replace(*paths)))
    write_atomically(tmp_path / "file", np.arange(9).tobytes())
    assert events == [False, "rename", True]
