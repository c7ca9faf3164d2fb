"""Which functions of the package run, and which of its files are opened, while a block is executed.

Python 3.12 and later tell each code object once (``sys.monitoring``) and cost next to nothing; before, the standard
library's profiler sees every call. Around timings nothing is looked at.
"""

from __future__ import annotations

import cProfile
import json
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from compactvision.records import places
from compactvision.records.dependencies import Names, closure, digests, is_machinery, path_of, shown

_OPTIMIZED = 0x1  # of functions; bodies of modules and classes run on import
_State = dict[Path, tuple[int, int]]
Switch = Callable[[], None]


@dataclass
class Noted:
    """Code objects that ran, by identity; files of the package that were opened; and all files' state before."""

    slug: str
    profile: str
    codes: dict[int, CodeType] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    before: _State = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._own = {f"notebook:{self.slug}", f"claims:{self.slug}/{self.profile}"}
        self.before = _state([*places.PACKAGE.rglob("*"), *map(path_of, self._own)])

    def names(self) -> Names:
        """Return all that the run in the block depends on, with today's digests."""
        return digests(self._ran() | self._own)

    def names_of_page(self) -> Names:
        """Return what outputs stand on that a notebook stores: what ran, and the lines that are shown."""
        return digests(self._ran() | shown(self.slug))

    def _ran(self) -> set[str]:
        codes = [code for code in list(self.codes.values()) if code.co_flags & _OPTIMIZED]
        files = {path: _inside(path) for path in {code.co_filename for code in codes}}
        executed = {f"{files[code.co_filename]}:{code.co_qualname}" for code in codes if files[code.co_filename]}
        return closure(executed, self.slug) | self.files

    def rewritten(self, names: Names) -> list[str]:
        """Return those names whose files were written since the block began: something else may have run."""
        paths = {name: path_of(name) for name in names}
        now = _state(set(paths.values()))
        return [name for name, path in paths.items() if path and now.get(path) != self.before.get(path)]


def _state(paths: Iterable[Path | None]) -> _State:
    states = {path: path.stat() for path in paths if path is not None and path.is_file()}
    return {path: (state.st_mtime_ns, state.st_size) for path, state in states.items()}


_current: Noted | None = None
_hooked = False


def _inside(path: str) -> str | None:
    try:
        return Path(path).resolve().relative_to(places.PACKAGE).as_posix()
    except (ValueError, OSError):
        return None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _current is not None and isinstance(arguments[0], str | bytes | Path):
        name = arguments[0]
        file = _inside(name.decode(errors="replace") if isinstance(name, bytes) else str(name))
        if file and not file.endswith((".py", ".pyc")) and not is_machinery(file):
            _current.files.add(file)


@contextmanager
def noting(slug: str, profile: str) -> Iterator[Noted]:
    """Note what runs and what is opened while a chapter's cells run; one block at a time."""
    global _current, _hooked
    noted = Noted(slug, profile)
    if not _hooked:
        sys.addaudithook(_audit)
        _hooked = True
    start, stop, tell = _watchers(noted.codes)
    with _timings_apart(start, stop):
        _current = noted
        start()
        try:
            yield noted
        finally:
            stop()
            tell()
            _current = None


_opened: list[tuple[AbstractContextManager[Noted], Noted]] = []


def begin(slug: str) -> None:
    """Begin to note in a kernel that executes a chapter, before its first cell."""
    block = noting(slug, "quick")
    _opened.append((block, block.__enter__()))


def finish(path: str) -> None:
    """Write what was noted since :func:`begin` as JSON: ``depends``, and in ``rewritten`` what changed meanwhile."""
    block, noted = _opened.pop()
    block.__exit__(None, None, None)
    depends = noted.names_of_page()
    Path(path).write_text(json.dumps({"depends": depends, "rewritten": noted.rewritten(depends)}), encoding="utf-8")


def _watchers(codes: dict[int, CodeType]) -> tuple[Switch, Switch, Switch]:
    """Return what starts looking, what stops it, and what enters at the end all that was seen."""
    return _monitoring(codes) if sys.version_info >= (3, 12) else _profiler(codes)


def _monitoring(codes: dict[int, CodeType]) -> tuple[Switch, Switch, Switch]:  # pragma: no cover
    monitoring = sys.monitoring  # type: ignore[attr-defined,unused-ignore]

    def first(code: CodeType, offset: int) -> Any:
        codes[id(code)] = code
        return monitoring.DISABLE

    def start() -> None:
        monitoring.use_tool_id(monitoring.PROFILER_ID, "compactvision")
        monitoring.restart_events()
        monitoring.register_callback(monitoring.PROFILER_ID, monitoring.events.PY_START, first)
        monitoring.set_events(monitoring.PROFILER_ID, monitoring.events.PY_START)

    def stop() -> None:
        monitoring.set_events(monitoring.PROFILER_ID, 0)
        monitoring.free_tool_id(monitoring.PROFILER_ID)

    return start, stop, lambda: None


def _profiler(codes: dict[int, CodeType]) -> tuple[Switch, Switch, Switch]:
    profiler = cProfile.Profile(builtins=False)  # of this thread, and written in C

    def seen(frame: FrameType, event: str, argument: object) -> None:
        codes[id(frame.f_code)] = frame.f_code

    def start() -> None:
        threading.setprofile(seen)  # of threads that begin from now on
        profiler.enable(builtins=False)

    def stop() -> None:
        profiler.disable()
        threading.setprofile(None)  # type: ignore[arg-type]

    def tell() -> None:
        codes.update({id(entry.code): entry.code for entry in profiler.getstats() if isinstance(entry.code, CodeType)})

    return start, stop, tell


@contextmanager
def _timings_apart(start: Switch, stop: Switch) -> Iterator[None]:
    """Look away while :mod:`compactvision.measure.timing` reads its clock; the passes of the warm-up are seen."""
    from compactvision.measure import timing

    plain = timing._time_ms

    @wraps(plain)
    def quiet(*arguments: Any, **options: Any) -> Any:
        stop()
        try:
            return plain(*arguments, **options)
        finally:
            start()

    timing._time_ms = quiet
    try:
        yield
    finally:
        timing._time_ms = plain
