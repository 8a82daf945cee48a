"""convert.files: what is written is whole, and never over what is there where that was not asked for."""
import errno
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from convert.files import write_new


def no_links(*_):
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.fixture(params=["hard links", "no hard links"])
def links(request, monkeypatch):
    """Both kinds of file systems."""
    if request.param == "no hard links":
        monkeypatch.setattr(os, "link", no_links)


def test_the_first_free_name(tmp_path, links):
    wanted = tmp_path / "dream.jpg"
    assert write_new(wanted, b"one", b"!") == wanted and wanted.read_bytes() == b"one!"
    (tmp_path / "dream-2.jpg").mkdir()
    (tmp_path / "dream-3.jpg").symlink_to(tmp_path / "nowhere")
    assert write_new(wanted, b"two") == tmp_path / "dream-4.jpg"
    assert wanted.read_bytes() == b"one!" and (tmp_path / "dream-4.jpg").read_bytes() == b"two"
    assert len(list(tmp_path.iterdir())) == 4 and not (tmp_path / "nowhere").exists()


def test_many_at_once_lose_nothing(tmp_path, links):
    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(lambda i: write_new(tmp_path / "dream.jpg", str(i).encode()), range(40)))
    assert [path.read_text() for path in written] == [str(i) for i in range(40)]
    assert sorted(tmp_path.iterdir()) == sorted(written) and len(set(written)) == 40


def test_the_file_can_be_read_by_others(tmp_path, links):
    umask = os.umask(0)
    os.umask(umask)
    assert write_new(tmp_path / "a", b"x").stat().st_mode & 0o777 == 0o666 & ~umask


def test_what_cannot_be_written_leaves_nothing(tmp_path, links, monkeypatch):
    with pytest.raises(OSError) as caught:
        write_new(tmp_path / "no" / "a.jpg", b"x")
    assert caught.value.filename == str(tmp_path / "no" / "a.jpg")
    with pytest.raises(OSError):
        write_new(tmp_path / ("x" * 300 + ".jpg"), b"x")

    def interrupted(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr(os, "link", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_new(tmp_path / "a.jpg", b"x")
    assert not list(tmp_path.iterdir())
