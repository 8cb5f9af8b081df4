"""A file layer under the `sqlite3` module that is measured and used in earnest: it sees every call, and can fail it.

`sqlite3` of the standard library takes no file layer (VFS) of Python's. So this one is registered with the same SQLite
library through ctypes, as the default of the process: whatever opens a database then goes through it, unaltered.
Each file is opened by the real layer; then a few of its methods are put in place of the real ones.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

_NAME: Final = b"watched"
_CREATES: Final = 0x00000004  # a flag of xOpen

_int, _void, _i64 = ctypes.c_int, ctypes.c_void_p, ctypes.c_int64
_XOpen = ctypes.CFUNCTYPE(_int, _void, _void, _void, _int, ctypes.POINTER(_int))
_XDelete = ctypes.CFUNCTYPE(_int, _void, ctypes.c_char_p, _int)
_XRead = ctypes.CFUNCTYPE(_int, _void, _void, _int, _i64)
_XTruncate = ctypes.CFUNCTYPE(_int, _void, _i64)
_XSync = ctypes.CFUNCTYPE(_int, _void, _int)


class _Vfs(ctypes.Structure):
    _fields_ = (
        ("iVersion", _int),
        ("szOsFile", _int),
        ("mxPathname", _int),
        ("pNext", _void),
        ("zName", ctypes.c_char_p),
        ("pAppData", _void),
        ("xOpen", _XOpen),
        ("xDelete", _XDelete),
        ("others", _void * 13),
    )


class _Methods(ctypes.Structure):
    _fields_ = (
        ("iVersion", _int),
        ("xClose", _void),
        ("xRead", _XRead),
        ("xWrite", _XRead),
        ("xTruncate", _XTruncate),
        ("xSync", _XSync),
        ("others", _void * 13),
    )


class _File(ctypes.Structure):
    _fields_ = (("pMethods", ctypes.POINTER(_Methods)),)


class Watcher(Protocol):
    """Is told of each call before it is done. Another answer than SQLITE_OK is SQLite's, and the call is not done."""

    def called(self, kind: str, path: Path, offset: int = 0, data: bytes = b"") -> tuple[int, int]:
        """The answer, and how many bytes of a write that fails are written all the same.

        `kind` is open, create, read, write, truncate, sync or delete; of the last, `offset` tells whether the folder is
        synced with it.
        """


class _Layer:
    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._library = ctypes.CDLL(_sqlite3.__file__)
        self._library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
        self._real = self._library.sqlite3_vfs_find(None)
        self._keep: list[Any] = []  # what SQLite holds pointers to
        self._methods: dict[str, _Methods] = {}
        self._vfs = _Vfs.from_buffer_copy(self._real.contents)
        self._vfs.pNext = None
        self._vfs.zName = _NAME
        self._vfs.xOpen = _XOpen(self._open)
        self._vfs.xDelete = _XDelete(self._delete)

    def register(self) -> None:
        if self._library.sqlite3_vfs_register(ctypes.byref(self._vfs), 1) != sqlite3.SQLITE_OK:
            raise RuntimeError("SQLite does not take the layer")

    def unregister(self) -> None:
        self._library.sqlite3_vfs_unregister(ctypes.byref(self._vfs))
        self._library.sqlite3_vfs_register(self._real, 1)

    def _open(self, _: int, name: int, file: int, flags: int, out: Any) -> int:
        path = Path(ctypes.string_at(name).decode()) if name else Path()
        existed = path.exists()
        result, _kept = self._watcher.called("create" if flags & _CREATES and not existed else "open", path)
        if result != sqlite3.SQLITE_OK:
            _File.from_address(file).pMethods = None  # SQLite closes only what has methods
            return result
        done: int = self._real.contents.xOpen(ctypes.addressof(self._real.contents), name, file, flags, out)
        opened = _File.from_address(file)
        if done == sqlite3.SQLITE_OK and name:
            opened.pMethods = ctypes.pointer(self._methods_of(path, opened.pMethods.contents))
        return done

    def _delete(self, _: int, name: bytes, sync: int) -> int:
        result, _kept = self._watcher.called("delete", Path(name.decode()), sync)
        if result != sqlite3.SQLITE_OK:
            return result
        done: int = self._real.contents.xDelete(ctypes.addressof(self._real.contents), name, 0)
        return done

    def _methods_of(self, path: Path, real: _Methods) -> _Methods:
        """Methods that know their file. The real ones ask nothing of the table by which they were called."""
        found = self._methods.get(str(path))
        if found is not None:
            return found
        called = self._watcher.called

        def read(file: int, into: int, amount: int, offset: int) -> int:
            result, _ = called("read", path, offset)
            return result or int(real.xRead(file, into, amount, offset))

        def write(file: int, data: int, amount: int, offset: int) -> int:
            result, kept = called("write", path, offset, ctypes.string_at(data, amount))
            if result != sqlite3.SQLITE_OK and kept == 0:
                return result
            return int(real.xWrite(file, data, amount if result == sqlite3.SQLITE_OK else kept, offset)) or result

        def truncate(file: int, size: int) -> int:
            result, _ = called("truncate", path, size)
            return result or int(real.xTruncate(file, size))

        def sync(_file: int, _flags: int) -> int:
            return called("sync", path)[0]  # the disk is the watcher's: nothing waits for the real one

        own = _Methods.from_buffer_copy(real)
        own.xRead, own.xWrite, own.xTruncate, own.xSync = (
            _XRead(read),
            _XRead(write),
            _XTruncate(truncate),
            _XSync(sync),
        )
        # A copy of the table as it was: `real` itself lives in the library.
        self._keep += [own, real]
        self._methods[str(path)] = own
        return own


@contextmanager
def watch_sqlite(watcher: Watcher) -> Iterator[None]:
    """Within, `sqlite3` opens every database through a layer that tells `watcher`. All are closed before the end."""
    layer = _Layer(watcher)
    layer.register()
    try:
        yield
    finally:
        layer.unregister()
