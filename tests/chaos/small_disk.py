"""A small file system of one's own, which can really be full: a tmpfs in a mount namespace, no rights needed.

A process of ours keeps the namespace, so that the files outlive those that use them. Linux with user namespaces only.
Run as a program it makes the namespace, mounts the folder that it is given, and waits for its input to end.
"""

import asyncio
import contextlib
import ctypes
import os
import sys
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_NEW_USER, _NEW_MOUNTS = 0x10000000, 0x00020000  # CLONE_NEWUSER, CLONE_NEWNS
_PRIVATE = 0x4000 | 0x40000  # MS_REC, MS_PRIVATE: what is mounted here shows nowhere else
_BLOCK = bytes(1 << 16)
_BALLAST = "ballast"
_READY = b"ready\n"


class SmallDisk:
    """Mounted on `folder` for those who `enter` it; everybody else sees an empty folder there."""

    def __init__(self, folder: Path, keeper: asyncio.subprocess.Process) -> None:
        self.keeper = keeper.pid
        self._process = keeper
        self._folder = Path(f"/proc/{keeper.pid}/root{folder}")  # as the keeper sees it

    @classmethod
    async def mount(cls, folder: Path, mebibytes: int) -> "SmallDisk | None":
        """None where the machine allows no user namespaces."""
        pipe = asyncio.subprocess.PIPE
        command = (sys.executable, __file__, str(folder), str(mebibytes))
        keeper = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, start_new_session=True)
        assert keeper.stdout
        if await keeper.stdout.readline() != _READY:
            await keeper.wait()
            return None
        return cls(folder, keeper)

    async def unmount(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        await self._process.wait()

    def fill(self) -> None:
        """To the last byte. Blocks for a moment."""
        with (self._folder / _BALLAST).open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(_BLOCK)

    def empty(self) -> None:
        (self._folder / _BALLAST).unlink(missing_ok=True)

    @property
    def free_bytes(self) -> int:
        found = os.statvfs(self._folder)
        return found.f_bavail * found.f_frsize


def enter(keeper: int) -> None:
    """This process sees the keeper's file systems from now on. Before any thread starts. Raises OSError."""
    for kind, flag in (("user", _NEW_USER), ("mnt", _NEW_MOUNTS)):
        theirs = Path(f"/proc/{keeper}/ns/{kind}")
        if theirs.readlink() != Path(f"/proc/self/ns/{kind}").readlink():
            with theirs.open() as file:
                _check(_libc.setns(file.fileno(), flag))


def _make(folder: str, mebibytes: str) -> None:
    if _libc.unshare(_NEW_MOUNTS) != 0:  # only root may do that alone
        _become_root_of_a_namespace()
    _check(_libc.mount(None, b"/", None, _PRIVATE, None))
    Path(folder).mkdir(parents=True, exist_ok=True)
    _check(_libc.mount(b"tmpfs", folder.encode(), b"tmpfs", 0, f"size={mebibytes}m,mode=700".encode()))


def _become_root_of_a_namespace() -> None:
    user, group = os.getuid(), os.getgid()
    _check(_libc.unshare(_NEW_USER | _NEW_MOUNTS))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    try:
        _make(*sys.argv[1:])
    except OSError:
        sys.exit(1)
    sys.stdout.buffer.write(_READY)
    sys.stdout.flush()
    sys.stdin.read()
