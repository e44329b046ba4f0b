from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from lightspeed_protocol.errors import ConfigError
from lightspeed_proxy.config import Source
from lightspeed_proxy.state_files import (
    is_root,
    locked,
    make_dir,
    may_write,
    one_line,
    problem_with,
    readers_besides_owner,
    stamp_of,
    state_dir,
    users_dir,
    write_file,
)

from tests.support.skips import need_root

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="modes and owners of POSIX")


def where(environ: dict[str, str], state: str | None = None) -> Path:
    return state_dir(Source(state=state).read(), environ)


def test_what_is_configured_comes_first_then_systemd(tmp_path: Path) -> None:
    environ = {"STATE_DIRECTORY": f"{tmp_path / 'a'}:{tmp_path / 'b'}", "XDG_STATE_HOME": "/x"}
    assert where(environ, state=str(tmp_path / "c")) == tmp_path / "c"
    assert where(environ) == tmp_path / "a"


def test_a_user_keeps_it_at_home(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    assert users_dir(home) == tmp_path / ".local" / "state" / "lightspeed-proxy"
    assert users_dir({**home, "XDG_STATE_HOME": str(tmp_path)}) == tmp_path / "lightspeed-proxy"
    relative = users_dir({**home, "XDG_STATE_HOME": "x"})
    assert relative == users_dir(home), "the standard says that a relative one is no good"


def test_root_has_the_systems_directory_where_it_can_be_written(tmp_path: Path) -> None:
    usual = where({"XDG_STATE_HOME": str(tmp_path)})
    system = Path("/var/lib/lightspeed")
    assert usual == (system if is_root() and may_write(system) else tmp_path / "lightspeed-proxy")


def test_a_file_is_replaced_whole_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, "one\n")
    before = stamp_of(path)
    write_file(path, "two\n")
    assert path.read_text() == "two\n"
    assert stamp_of(path) != before
    assert os.listdir(tmp_path) == ["file"]
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_cannot_be_replaced_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(ConfigError, match=r"cannot be written: .*--state DIR"):
        write_file(tmp_path / "file", "text")
    assert os.listdir(tmp_path) == ["file"]
    with pytest.raises(ConfigError, match="cannot be written: No such file"):
        write_file(tmp_path / "none" / "file", "text")


@POSIX
def test_the_directory_is_for_its_owner_only(tmp_path: Path) -> None:
    make_dir(tmp_path / "a" / "b")
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    make_dir(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made"):
        make_dir(tmp_path / "file")


if sys.platform != "win32":

    def test_what_root_writes_belongs_to_the_directorys_owner(tmp_path: Path) -> None:
        need_root()
        directory = tmp_path / "state"
        make_dir(directory)
        os.chown(directory, 12345, 23456)
        write_file(directory / "file", "text")
        found = (directory / "file").stat()
        assert (found.st_uid, found.st_gid) == (12345, 23456)


def test_a_link_of_somebody_else_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    try:
        (tmp_path / "file").symlink_to(tmp_path / "precious")
    except OSError:
        pytest.skip("this user may make no links")
    write_file(tmp_path / "file", "text")
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (tmp_path / "file").is_symlink()


def test_problems_are_found_without_making_anything(tmp_path: Path) -> None:
    assert problem_with(tmp_path / "a" / "b") is None
    assert os.listdir(tmp_path) == []
    (tmp_path / "file").write_text("")
    assert "is not a directory" in (problem_with(tmp_path / "file") or "")
    assert not may_write(tmp_path / "file" / "below")
    assert "cannot be written by this user" in (problem_with(tmp_path / "file" / "below") or "")


@POSIX
def test_who_else_may_read_a_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("")
    for mode, readers in ((0o600, None), (0o640, "its group"), (0o644, "everybody")):
        path.chmod(mode)
        assert readers_besides_owner(path) == readers


@POSIX
def test_two_that_change_files_at_once_wait_for_each_other(tmp_path: Path) -> None:
    """The other one is a process: it could take the lock only after we gave it back."""
    code = (
        "import sys, pathlib\n"
        "from lightspeed_proxy.state_files import locked\n"
        "directory = pathlib.Path(sys.argv[1])\n"
        "print('asking', flush=True)\n"
        "with locked(directory):\n"
        "    print((directory / 'file').read_text(), flush=True)\n"
    )
    with locked(tmp_path):
        other = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert other.stdout is not None
        assert other.stdout.readline() == "asking\n"
        (tmp_path / "file").write_text("ours")
    with other:
        assert other.communicate(timeout=20)[0] == "ours\n"


@POSIX
def test_a_directory_that_is_not_there_cannot_be_locked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be opened"), locked(tmp_path / "none"):
        pass


def test_a_mistake_fits_into_one_line() -> None:
    assert one_line(ConfigError("file", ["is wrong", "is old"])) == "file: is wrong is old"
