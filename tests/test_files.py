"""convert.files and deepdream.runtime.cache: files keep their permissions, and a broken cache never stops a run."""
import contextlib
import errno
import os
import stat
import tempfile
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from deepdream.convert import ConvertError, files
from deepdream.convert.files import write_new

from deepdream.runtime import cache

POSIX = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX permissions")
NOBODY = 65534


@pytest.fixture
def common():
    """A folder that every user may enter and write to."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o777)
        yield Path(place)


@contextlib.contextmanager
def no_root():
    """Give up root's rights for a while, so that permissions apply."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


# ---- permissions

@POSIX
@pytest.mark.parametrize("before", [0o600, 0o640, 0o666, 0o755])
def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path, before):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(before)
    files.write(path, b"new")
    assert path.read_bytes() == b"new" and mode(path) == before


@POSIX
def test_a_link_keeps_the_permissions_of_what_it_leads_to(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    files.write(tmp_path / "link", b"new")
    assert mode(tmp_path / "real") == 0o640 and (tmp_path / "link").is_symlink()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_that_is_replaced_keeps_its_owner(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    os.chown(tmp_path / "a", NOBODY, NOBODY)
    files.write(tmp_path / "a", b"new")
    there = (tmp_path / "a").stat()
    assert (there.st_uid, there.st_gid) == (NOBODY, NOBODY)


@POSIX
def test_a_private_file_is_never_readable_for_others(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "a").chmod(0o600)
    seen = []
    monkeypatch.setattr(files, "to_disk", lambda handle: seen.append(stat.S_IMODE(os.fstat(handle).st_mode)))
    files.write(tmp_path / "a", b"new")
    assert seen == [0o600]


@POSIX
def test_a_new_file_has_default_permissions_in_every_thread(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "umask", lambda _: pytest.fail("setting the umask affects all threads"))
    threads = [threading.Thread(target=files.write, args=(tmp_path / str(i), b"x")) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    (tmp_path / "plain").write_bytes(b"x")
    assert {mode(path) for path in tmp_path.iterdir()} == {mode(tmp_path / "plain")}
    assert len(list(tmp_path.iterdir())) == 9


@POSIX
def test_a_file_that_can_only_be_read_stays(common):
    path = common / "a"
    with no_root():
        path.write_bytes(b"old")
        path.chmod(0o444)
        with pytest.raises(PermissionError):      # as for a plain write
            path.write_bytes(b"new")
        with pytest.raises(PermissionError) as caught:
            files.write(path, b"new")
        assert caught.value.filename == str(path)
        with pytest.raises(ConvertError, match=r"^-o .*a: cannot be written: Permission denied$"):
            files.check_target(path)
    assert path.read_bytes() == b"old" and list(common.iterdir()) == [path]


def status(uid, permissions):
    return types.SimpleNamespace(st_uid=uid, st_mode=stat.S_IFDIR | permissions)


@pytest.mark.parametrize("link, owner, permissions, user, trap", [
    (7, 0, 0o1777, 8, True), (7, 0, 0o1777, 0, True),           # another user's link in /tmp, for a user and for root
    (8, 0, 0o1777, 8, False), (0, 0, 0o1777, 8, False),         # the user's own link, or that of the folder's owner
    (7, 0, 0o777, 8, False), (7, 0, 0o1755, 8, False)])         # a folder that is not sticky, or not writable for all
def test_whose_links_are_followed(link, owner, permissions, user, trap):
    assert files.is_strangers_link(status(link, 0o777), status(owner, permissions), user) is trap


@pytest.mark.parametrize("user, file, folder, permissions, kept", [
    (8, 7, 0, 0o1777, True), (8, 8, 0, 0o1777, False), (8, 7, 8, 0o1777, False), (0, 7, 8, 0o1777, False),
    (8, 7, 0, 0o777, False)])
def test_whose_files_are_replaced(user, file, folder, permissions, kept):
    assert files.is_kept_from(user, status(file, 0o666), status(folder, permissions)) is kept


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can make another user's link")
def test_another_users_link_in_a_sticky_folder_is_rejected(tmp_path):
    (tmp_path / "mine").write_bytes(b"old")
    sticky = tmp_path / "sticky"
    sticky.mkdir()
    sticky.chmod(0o1777)
    for name, to in {"link": tmp_path / "mine", "new": tmp_path / "none", "again": "link"}.items():
        (sticky / name).symlink_to(to)
        os.lchown(sticky / name, NOBODY, NOBODY)
    (tmp_path / "far").symlink_to(sticky / "link")
    for path in (sticky / "link", sticky / "new", sticky / "again", tmp_path / "far"):
        with pytest.raises(PermissionError):
            files.write(path, b"new")
        with pytest.raises(ConvertError, match="cannot be written: "):
            files.check_target(path)
    assert (tmp_path / "mine").read_bytes() == b"old" and not (tmp_path / "none").exists()
    os.lchown(sticky / "link", 0, 0)
    files.write(sticky / "link", b"new")
    assert (tmp_path / "mine").read_bytes() == b"new"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can make another user's file")
def test_another_users_file_in_a_sticky_folder_is_rejected_early(common):
    common.chmod(0o1777)
    (common / "a").write_bytes(b"old")
    (common / "a").chmod(0o666)
    with no_root(), pytest.raises(ConvertError, match="another user's file"):
        files.check_target(common / "a")
    assert (common / "a").read_bytes() == b"old"


def test_invalid_names(tmp_path):
    for call in (lambda path: files.write(path, b""), files.check_target):
        with pytest.raises((OSError, ConvertError), match="not the name of a file"):
            call(f"{tmp_path}/a\0b")
    with pytest.raises(ConvertError, match="too long"):
        files.check_target(tmp_path / ("a" * 300))


# ---- sync

@pytest.mark.parametrize("sync, expected", [(True, ["fsync", "replace"]), (False, ["replace"])])
def test_a_file_is_synced_before_it_gets_its_name(tmp_path, monkeypatch, sync, expected):
    done = []
    for name in ("fsync", "replace"):
        def noted(*args, name=name, real=getattr(os, name)):
            done.append(name)
            return real(*args)
        monkeypatch.setattr(os, name, noted)
    files.write(tmp_path / "a", b"x", sync=sync)
    assert done == expected


def test_a_file_system_that_cannot_sync(tmp_path, monkeypatch):
    def cannot(_):
        raise OSError(22, "Invalid argument")
    monkeypatch.setattr(os, "fsync", cannot)
    files.write(tmp_path / "a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x"


# ---- the cache of graphs

@pytest.fixture
def graphs(tmp_path, monkeypatch):
    """The cache's folder of graphs, which exists and is empty."""
    monkeypatch.setenv("DEEPDREAM_CACHE", str(tmp_path / "cache"))
    cache.folder().mkdir(parents=True)
    return cache.folder()


def is_cached(name):
    """Return whether an entry of the cache is built only once."""
    built = []
    for _ in range(2):
        assert cache.cached(name, lambda: built.append(1) or b"abc") == b"abc"
    return len(built) == 1


def test_a_folder_with_the_name_of_a_file(graphs):
    (graphs / "x").mkdir()
    assert not is_cached("x") and is_cached("y")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_and_devices_are_not_read(graphs):
    os.mkfifo(graphs / "x")
    (graphs / "y").symlink_to("/dev/zero")
    (graphs / "z").symlink_to("z")
    assert not is_cached("x") and not is_cached("y") and not is_cached("z") and is_cached("a")


def test_leftovers_do_no_harm(graphs):
    (graphs / ".old.part").mkdir()
    (graphs / ".dead.part").write_bytes(b"half")
    (graphs / ".half.part").write_bytes(b"half")
    (graphs / "cut").write_bytes(b"ab")
    for name in (".old.part", ".dead.part"):
        os.utime(graphs / name, (1, 1))
    assert is_cached("x") and is_cached("cut")
    assert sorted(p.name for p in graphs.iterdir()) == [".half.part", ".old.part", "cut", "x"]


def test_folders_do_not_count_as_cached_files(graphs, monkeypatch):
    monkeypatch.setattr(cache, "LIMIT", 100)
    for i in range(3):
        (graphs / str(i)).mkdir()
        os.utime(graphs / str(i), (1, 1))
    assert is_cached("x") and len(list(graphs.iterdir())) == 4


@POSIX
def test_a_read_only_cache_is_used(common, monkeypatch):
    monkeypatch.setenv("DEEPDREAM_CACHE", str(common))
    assert is_cached("x")
    for path in (cache.folder(), common):
        path.chmod(0o555)
    with no_root():
        assert cache.cached("x", lambda: pytest.fail("is there")) == b"abc" and not is_cached("y")
    assert [p.name for p in cache.folder().iterdir()] == ["x"]
    for path in (common, cache.folder()):
        path.chmod(0o755)


@pytest.mark.parametrize("way", ["cache", "cache/graphs"])
def test_a_file_in_the_place_of_a_folder(tmp_path, monkeypatch, way):
    monkeypatch.setenv("DEEPDREAM_CACHE", str(tmp_path / "cache"))
    (tmp_path / way).parent.mkdir(exist_ok=True)
    (tmp_path / way).write_text("in the way")
    assert not is_cached("x") and (tmp_path / way).read_text() == "in the way"


def test_a_cache_that_is_a_link_to_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPDREAM_CACHE", str(tmp_path / "link"))
    (tmp_path / "link").symlink_to(tmp_path / "link")
    assert not is_cached("x")


# ---- unused names

def no_links(*_):
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.fixture(params=["hard links", "no hard links"])
def links(request, monkeypatch):
    """Test both kinds of file systems."""
    if request.param == "no hard links":
        monkeypatch.setattr(os, "link", no_links)


def test_the_first_unused_name_is_taken(tmp_path, links):
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


def test_a_failed_write_leaves_no_file(tmp_path, links, monkeypatch):
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
