"""One call with bad arguments."""

from __future__ import annotations

import contextlib
import inspect
import io
import random
import signal
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch._dynamo  # the first optimiser does it, for longer than a call may take

from . import judge
from .calls import AFTERWARDS, CALLS, FREE
from .pools import pool
from .public import public

SECONDS = 3.0
"""Time of the processor after which a call counts as hanging."""


class Hang(BaseException):
    """A call took too long."""


def arguments(name: str) -> dict[str, Any]:
    """The valid arguments of a function; those that the registry does not give are the defaults."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (code under test may read the global state)
    given = CALLS[name]()
    skipped = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    for parameter in inspect.signature(public()[name]).parameters.values():
        if parameter.default is not parameter.empty and parameter.kind not in skipped:
            given.setdefault(parameter.name, parameter.default)
    return given


def candidates(name: str) -> list[tuple[str, str]]:
    """All pairs of an argument and the label of a bad value for it."""
    given = arguments(name)
    return [(argument, label) for argument, value in given.items() if argument != "self" for label in pool(value)]


def chosen(name: str, count: int, seed: int) -> list[dict[str, str]]:
    """Draw calls of a function: one argument is bad, in every sixth call two are."""
    draw = random.Random(f"{seed} {name}")
    each = candidates(name)
    draw.shuffle(each)
    picked: list[dict[str, str]] = []
    for number, (argument, label) in enumerate(each[:count]):
        bad = {argument: label}
        others = [pair for pair in each if pair[0] != argument]
        if number % 6 == 5 and others:
            bad |= [draw.choice(others)]
        picked.append(bad)
    return picked


def attempt(name: str, bad: Mapping[str, str]) -> tuple[str, str] | None:
    """Make the call; return its outcome and a detail, or None where the bad values are the valid ones."""
    function = public()[name]
    valid = arguments(name)
    changed = dict(valid)
    try:
        changed |= {argument: pool(valid[argument])[label](valid[argument]) for argument, label in bad.items()}
    except Exception:
        return None
    bad = {argument: label for argument, label in bad.items() if changed[argument] is not valid[argument]}
    if not bad:
        return None
    try:
        with _quiet(), _limited():
            result = run(name, function, changed)
    except Hang:
        return "hang", "no answer"
    except Exception as error:
        return judge.error(function, bad.values(), error), judge.place(error)
    free = FREE.get(name, ())
    counted = {argument: label for argument, label in bad.items() if not {argument, f"{argument}:{label}"} & set(free)}
    return judge.accepted(inspect.signature(function).parameters, counted, valid, result), _short(result)


def run(name: str, function: Any, given: Mapping[str, Any]) -> Any:
    """Call a function; enter what is a context, read what is an iterator, use what is to be used."""
    positional, keywords = [], {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL and parameter.name in given:
            value = given[parameter.name]
            positional += value if isinstance(value, tuple) else [value]
        elif parameter.kind is parameter.VAR_KEYWORD:
            keywords |= given.get(parameter.name, {})
        elif parameter.name in given and parameter.kind is parameter.KEYWORD_ONLY:
            keywords[parameter.name] = given[parameter.name]
        elif parameter.name in given:
            positional.append(given[parameter.name])
    result = function(*positional, **keywords)
    afterwards = AFTERWARDS.get(name)
    if isinstance(result, contextlib._GeneratorContextManager):
        with result as inside:
            return afterwards(inside) if afterwards else inside
    if afterwards:
        return afterwards(result)
    if isinstance(result, Iterator):
        return [item for _, item in zip(range(50), result)]
    return result


def again(name: str, **bad: str) -> Any:
    """Repeat a call of the table, for its traceback: ``again("surgery.apply.prune", plan="None")``."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        valid = arguments(name)
        changed = {argument: pool(valid[argument])[label](valid[argument]) for argument, label in bad.items()}
        return run(name, public()[name], {**valid, **changed})


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


def _short(result: Any) -> str:
    try:
        return f"gave {' '.join(repr(result).split())[:90]}"
    except Exception:
        return f"gave {type(result).__name__}"
