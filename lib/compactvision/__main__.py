"""The command line: ``shrink``, and what makes the book: ``list | run | scorecard | data | versions | execute`` ...."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from compactvision import _output as output
from compactvision import claims, records
from compactvision._command_line import parser
from compactvision.claims.schema import CERTAIN
from compactvision.records import PROFILES


def _list(asked: argparse.Namespace) -> int:
    chapters = [claims.load(slug) for slug in claims.slugs()]
    name = max((len(one.slug) for one in chapters), default=0)
    title = max((len(one.title) for one in chapters), default=0)
    for one in chapters:
        made = [profile for profile in PROFILES if records.load(one.slug, profile)]
        print(f"{one.slug:{name}}  {one.part:9}  {one.title:{title}}  records: {', '.join(made) or 'none'}")
    return 0


def _run(asked: argparse.Namespace) -> int:
    from compactvision.experiment.collect import collect, forget
    from compactvision.records.places import in_checkout

    if asked.save and not in_checkout():
        raise ValueError("--save: the package is not in a clone of the book; use --record PATH")
    recording = asked.save or asked.record is not None
    if recording:
        claims.load(asked.slug)
        _refuse_unwritable(asked.record or records.path_of(asked.slug, asked.profile))
    record = collect(
        asked.slug, profile=asked.profile, seeds=asked.seeds, device=asked.device, recording=recording, say=_say
    )
    if asked.save:
        records.save(record)
        print(f"written: records/{record.slug}/{record.profile}.json")
    elif asked.record is not None:
        records.write(record, asked.record)
        print(f"written: {asked.record}")
    forget(asked.slug, asked.profile, asked.device)
    print(f"\nValues ({record.profile}, seeds {', '.join(map(str, record.seeds))}):")
    for name in record.names:
        print(f"  {name:44} {_value_text(record, name)}")
    found = [v for v in claims.verdicts(asked.slug, record) if v.claim.profile == asked.profile]
    print(f"\n{claims.tables(found)}")
    return int(any(v.claim.kind in CERTAIN and v.level in ("partly", "no") for v in found))


def _confirm(asked: argparse.Namespace) -> int:
    from compactvision.experiment.collect import RunError
    from compactvision.experiment.confirm import confirm
    from compactvision.records.places import in_checkout

    if not in_checkout():
        raise ValueError("confirm: the package is not in a clone of the book, where its records lie")
    slugs = asked.slugs or [slug for slug in claims.slugs() if records.load(slug, asked.profile)]
    status = 0
    for slug in slugs:
        try:
            found = confirm(slug, profile=asked.profile, seed=asked.seed, device=asked.device, say=_say)
        except RunError as error:  # the other chapters are worth their time
            _say(f"{slug} ({asked.profile}): not confirmed: {error}")
            status = 1
            continue
        for line in found.lines():
            print(f"  {line}")
        result = f"{len(found.differ)} values differ, the record stays as it was" if found.differ else "confirmed"
        _say(f"{slug} ({asked.profile}): {found.compared} values compared; {result}")
        status = 1 if found.differ else status
    return status


def _refuse_unwritable(path: Path) -> None:
    """Raise ``OSError`` before a long run whose record could not be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a file to write")
    with tempfile.TemporaryFile(dir=path.parent):
        pass


def _say(text: str) -> None:
    print(text, flush=True)


def _value_text(record: records.Record, name: str) -> str:
    values = record.values(name)
    if isinstance(values[0], list):
        return f"{len(values[0])} numbers a seed"
    if len(values) == 1:
        return f"{values[0]:,}" if isinstance(values[0], int) else f"{values[0]:.6g}"
    return f"{record.mean(name):.6g} ± {record.sd(name):.2g}"


def _scorecard(asked: argparse.Namespace) -> int:
    card = claims.scorecard()
    if asked.pages is not None:
        from compactvision.queue import board

        for path in (*claims.write_pages(asked.pages), board.write_page(asked.pages)):
            print(path)
    elif asked.json:
        print(card.to_json())
    else:
        print(claims.scorecard_page() if asked.markdown else card, end="" if asked.markdown else "\n")
    return 0


def _data(asked: argparse.Namespace) -> int:
    from compactvision import data, plots

    if asked.name is None:
        rows = []
        for name in data.names():
            one = data.describe(name)
            size = "embedded" if one.embedded else f"{one.mib} MiB, {'present' if one.present else 'not present'}"
            rows.append([one.name, one.images, one.classes, size, one.licence])
        print(plots.table(rows, ["Set", "Images", "Classes", "On disk", "Licence"], f"Data folder: {data.folder()}"))
        return 0
    for train in (True, False):
        images = data.load(asked.name, train=train)
        print(f"{images.name}: {len(images):,} images {tuple(images.images.shape[1:])}, {images.num_classes} classes")
        print(f"  {images.provenance}\n  SHA-256 {images.digest()}")
    return 0


def _versions(asked: argparse.Namespace) -> int:
    from compactvision import experiment
    from compactvision._repository import repository_url

    print(experiment.stamp())
    for name, version in records.versions().items():
        print(f"{name:14} {version}")
    print(f"{'repository':14} {repository_url()}")
    return 0


def _paths(slugs: Sequence[str]) -> list[Path]:
    from compactvision import notebooks

    return [notebooks.find(slug) for slug in slugs or claims.slugs()]


def _execute(asked: argparse.Namespace) -> int:
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    from compactvision import notebooks

    for path in _paths(asked.slugs):
        if asked.claims:
            print(f"{path.name}: claims {'renewed' if notebooks.renew_claims(path) else 'are those of today'}")
            continue
        _say(f"executing {path.name}")
        try:
            notebooks.execute(path)
        except CellExecutionError as error:
            print(f"{path.name}: {error}", file=sys.stderr)
            return 1
        except (DeadKernelError, NoSuchKernel) as error:
            return output.tell(f"{path.name}: {error}", 1)
    return 0


def _fresh(asked: argparse.Namespace) -> int:
    from compactvision import notebooks

    status = 0
    for path in _paths(asked.slugs):
        stale = notebooks.stale(path)
        found = ([stale] if stale else []) + notebooks.problems(path)
        print(f"{path.name}: {'; '.join(found) or 'fresh'}")
        status = 1 if found else status
    return status


def _new(asked: argparse.Namespace) -> int:
    from compactvision import skeleton
    from compactvision.records.places import CHECKOUT

    written = skeleton.new(
        CHECKOUT, asked.slug, title=asked.title, family=asked.family, paper=asked.paper, key=asked.cite
    )
    for path in written.created:
        print(f"written  {path}")
    for path in written.changed:
        print(f"entry in {path}")
    print("\nIt runs as it is. What is to write: pytest tests/test_skeleton.py -k left_to_write (see CONTRIBUTING.md).")
    return 0


def _repository(asked: argparse.Namespace) -> int:
    from compactvision import notebooks
    from compactvision.records.places import CHECKOUT

    for path in notebooks.set_repository(asked.url, CHECKOUT):
        print(path)
    return 0


def _queue(asked: argparse.Namespace) -> int:
    from compactvision.queue.command import execute

    return execute(asked, _say)


def _shrink(asked: argparse.Namespace) -> int:
    from compactvision.shrinking.command import execute

    return execute(asked, _say)


COMMANDS = {
    "shrink": _shrink,
    "list": _list,
    "run": _run,
    "confirm": _confirm,
    "scorecard": _scorecard,
    "data": _data,
    "versions": _versions,
    "execute": _execute,
    "fresh": _fresh,
    "new": _new,
    "queue": _queue,
    "repository": _repository,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        0; 1 if a run fails, an exact claim fails or a notebook is not fresh; 2 for arguments that make no sense, files
        that are damaged or cannot be read or written, or data that is not there, with one line on stderr; 130 if it
        was interrupted, 141 if whoever read the output has closed it.
    """
    try:
        try:
            asked = parser().parse_args(arguments)
        except SystemExit as stop:
            status = int(stop.code or 0)
        else:
            status = _done(asked)
        output.flush()
        return status
    except BrokenPipeError:  # whoever read the output has had enough, as `head` does
        output.drop()
        return output.CLOSED_PIPE
    except OSError as error:
        output.drop()  # it may be what could not be written
        return output.tell(error, 2)
    except KeyboardInterrupt:
        return output.tell("stopped; what is finished is kept", 130)


def _done(asked: argparse.Namespace) -> int:
    """Do what a command says, and return the exit status."""
    from compactvision.data import DataError
    from compactvision.experiment.collect import RunError

    try:
        return COMMANDS[asked.command](asked)
    except (ValueError, DataError) as error:
        return output.tell(error, 2)
    except RunError as error:
        return output.tell(error, 1)


if __name__ == "__main__":
    sys.exit(main())
