"""Which functions of the package run, and which of its files are opened, while a block is executed.

Python 3.12 and later tell each code object once (``sys.monitoring``) and cost next to nothing; before, every call is
seen (``sys.setprofile``). Around timings nothing is looked at.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from compactvision.records import places
from compactvision.records.dependencies import Names, closure, digests, is_machinery, outermost

_OPTIMIZED = 0x1  # of functions; bodies of modules and classes run on import


@dataclass
class Noted:
    """Code objects that ran, by identity, and files of the package that were opened."""

    codes: dict[int, CodeType] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)

    def names(self, slug: str) -> Names:
        """Return all that the block depends on, with today's digests."""
        executed = set()
        for code in list(self.codes.values()):
            file = _inside(code.co_filename)
            if file and code.co_flags & _OPTIMIZED and not is_machinery(file):
                executed.add(f"{file}:{outermost(code.co_qualname)}")
        return digests(closure(executed) | self.files | {f"notebook:{slug}", f"claims:{slug}"})


_current: Noted | None = None
_hooked = False


def _inside(path: str) -> str | None:
    try:
        return Path(path).resolve().relative_to(places.PACKAGE).as_posix()
    except (ValueError, OSError):
        return None


def _note_file(path: object) -> None:
    """Note a file of the package that is no code."""
    if _current is None or not isinstance(path, str | Path):
        return
    file = _inside(str(path))
    if file and not file.endswith((".py", ".pyc")) and not is_machinery(file):
        _current.files.add(file)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _current is not None:
        _note_file(arguments[0])


@contextmanager
def noting() -> Iterator[Noted]:
    """Note meanwhile what runs and what is opened; one block at a time."""
    global _current, _hooked
    noted = Noted()
    if not _hooked:
        sys.addaudithook(_audit)
        _hooked = True
    _current = noted
    start, stop = _watchers(noted)
    with _timers(start, stop):
        start()
        try:
            yield noted
        finally:
            stop()
            _current = None


def _watchers(noted: Noted) -> tuple[Any, Any]:
    codes = noted.codes
    if sys.version_info >= (3, 12):  # pragma: no cover
        monitoring = sys.monitoring

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

        return start, stop

    def seen(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            code = frame.f_code
            codes[id(code)] = code

    before = sys.getprofile()

    def start() -> None:
        threading.setprofile(seen)
        sys.setprofile(seen)

    def stop() -> None:
        sys.setprofile(before)
        threading.setprofile(None)  # type: ignore[arg-type]

    return start, stop


@contextmanager
def _timers(start: Any, stop: Any) -> Iterator[None]:
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
