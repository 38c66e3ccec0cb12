"""An ext4 file system in a file on a loop device: its power can be cut, and it fills up soon.

FS_IOC_SHUTDOWN with the flag NOLOGFLUSH makes ext4 forget all that was not synced, as a power loss does.
Stop the processes that use it first: a sync that is under way returns without error.
"""

import ctypes
import fcntl
import os
import subprocess
from pathlib import Path

from tests.helpers.wait import scaled, wait_until

FS_IOC_SHUTDOWN = 0x8004587D
SHUTDOWN_NOLOGFLUSH = 2
IMAGE_BYTES = 64 * 1024 * 1024


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=scaled(30))


class LoopDisk:
    """An ext4 file system in a file, whose power can be cut."""

    def __init__(self, directory: Path) -> None:
        self.image = directory / "image"
        self.mount_point = directory / "mount"
        self.mount_point.mkdir()
        self.is_mounted = False
        with self.image.open("wb") as image:
            image.truncate(IMAGE_BYTES)
        run("mkfs.ext4", "-q", "-F", str(self.image))

    def mount(self) -> None:
        run("mount", "-o", "loop", str(self.image), str(self.mount_point))
        self.is_mounted = True

    def unmount(self) -> None:
        if self.is_mounted:
            # A process that was killed a moment ago can still be busy closing its files.
            wait_until(self._try_unmount, 20, f"{self.mount_point} is no longer in use")
            self.is_mounted = False

    def _try_unmount(self) -> bool:
        return subprocess.run(["umount", str(self.mount_point)], check=False).returncode == 0

    def cut_power(self) -> None:
        descriptor = os.open(self.mount_point, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, FS_IOC_SHUTDOWN, bytes(ctypes.c_uint32(SHUTDOWN_NOLOGFLUSH)))
        finally:
            os.close(descriptor)
