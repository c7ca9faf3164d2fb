"""The board: a row for each claim that was not run, with all that somebody with a GPU needs, and who ran the others.

Its page is made with the book. A record that somebody sends is read by :func:`looked_at` before it is taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from compactvision import records
from compactvision.claims import Chapter, Claim, Scorecard, scorecard
from compactvision.claims.decision import NOT_RUN, quantity
from compactvision.claims.pages import chapter_link
from compactvision.claims.rules import SYMBOLS, judge
from compactvision.claims.schema import TRAINED, load, slugs
from compactvision.plots import Html
from compactvision.plots.display import markdown_table
from compactvision.plots.escape import as_html, as_markdown
from compactvision.queue import arms, report
from compactvision.queue.entries import BASELINES, ENTRIES, FULL, Entry
from compactvision.records import Record
from compactvision.records.texts import write_text

NAME = "board.md"
SPARE = 1.5  # of the minutes that are expected, the minutes that a call may take
COLUMNS = ("Claim, and the command", "Paper", "Hours", "GPU", "Data")
WIDE = '<span class="cv-claim"></span>'  # by it a table's first column keeps its width
_PREFIX = re.compile(r"^(trained|converged)\.")
_DATA = {  # words of claims -> what has to be had
    r"CIFAR-100|^cifar100\.": "CIFAR-100",
    r"CIFAR-10(?!0)": "CIFAR-10",
    r"ImageNet|^imagenet\.": "ImageNet",
    r"Places": "Places",
    r"ADE20K": "ADE20K",
    r"Cityscapes": "Cityscapes",
    r"COCO": "COCO",
    r"VOC": "PASCAL VOC 2012",
    r"NATS-Bench": "NATS-Bench",
    r"\bvideo\b": "video; the abstract names no set",
    r"paper's images": "the paper's own images, which are not published",
    r"Moons|Circles|[Ss]piral": "generated",
    r"street frames": "CamVid, and the weights of EfficientNet-Lite0",
}
_CARRIED = re.compile(r"(?:The|On the) same\b|Tuned\b|It ends\b")  # a claim that speaks of what the one before names


def page(card: Scorecard | None = None) -> str:
    """Return the board in MyST Markdown: what a command runs, what needs an arm first, and who ran what."""
    ready: list[list[object]] = []
    open_: list[list[object]] = []
    for chapter, found in (card or scorecard()).chapters:
        carried = ""
        for verdict in found:
            claim = verdict.claim
            carried = data_of(claim) or (carried if _CARRIED.match(claim.text) else "")
            if verdict.level != NOT_RUN:
                continue
            row = _row(chapter, claim, verdict.paper, carried)
            (ready if _ready(chapter, claim) else open_).append(row)
    parts = [_counted(ready, open_)]
    if ready:
        parts += ["## A command runs these", markdown_table(ready, COLUMNS)]
    if open_:
        note = "What a training is, and what it logs, stands in `lib/compactvision/queue/arms`; these have none yet."
        columns = ("Claim", *COLUMNS[1:])
        parts += ["## An arm has to be written first for these", note, markdown_table(open_, columns)]
    return "\n\n".join([*parts, "## Who ran what", _credits()]) + "\n"


def write_page(folder: Path) -> Path:
    """Write the board into a folder of generated pages; a file that would stay the same is not touched."""
    path, text = folder / NAME, page()
    if not path.is_file() or path.read_bytes() != text.encode():
        write_text(path, text)
    return path


def entry_of(slug: str, claim: Claim, entries: Iterable[Entry] = ENTRIES) -> Entry | None:
    """Return the line of the queue whose record would decide a claim, None where none would."""
    own = [entry for entry in entries if entry.slug == slug]
    if claim.profile != TRAINED:
        return next((entry for entry in own if entry.kind == FULL and claim.profile == FULL), None)
    wanted = {_arm_of(name, own) for name in claim.rule.names}
    covers = (entry for entry in own if entry.arm in wanted and wanted <= {entry.arm, *map(_arm, entry.needs)})
    return next(covers, None)


def _arm(name: str) -> str:
    return name.partition("/")[2]


def _arm_of(value: str, entries: Sequence[Entry]) -> str | None:
    """Return the arm that logs a value: "vgg16-cut" for "vgg16.cut", "vgg16" for "trained.vgg16"."""
    value = _PREFIX.sub("", value)
    names = (entry.arm for entry in entries if entry.arm.replace("-", ".") == value or entry.arm == value.split(".")[0])
    return next(names, None)


def hours(entry: Entry, entries: Iterable[Entry] = ENTRIES) -> float:
    """Return the hours that an entry takes on an H100, all its seeds, with what it starts from where nothing is done.

    They are an estimate until a record tells.
    """
    known = {other.name: other for other in entries}
    wanted, waiting = {entry.name}, list(entry.needs)
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting += known[name].needs
    return sum(known[name].minutes for name in wanted) * len(entry.seeds) / 60


def data_of(claim: Claim) -> str:
    """Return the data that a claim names, empty where it names none."""
    texts = [claim.text, *claim.rule.names]
    found = [data for pattern, data in _DATA.items() if any(re.search(pattern, text) for text in texts)]
    return ", ".join(found)


def command_of(slug: str, entry: Entry | None) -> str:
    """Return the line that makes the record: by the queue, or of a notebook that stands outside it."""
    if entry is None:
        return f"make full SLUG={slug}"
    minutes = round(SPARE * 60 * hours(entry) + 5)
    return f"make gpu-queue ONLY={entry.name} OUT=out MINUTES={minutes}"


def _row(chapter: Chapter, claim: Claim, paper: str, data: str) -> list[object]:
    """Return the cells of a claim: what it says and the command below it, the paper's value, hours, GPU and data."""
    entry = entry_of(chapter.slug, claim)
    if entry is not None:
        needs = [f"{hours(entry):.1f}", f"H100, {entry.memory:g} GiB"]
    else:
        needs = ["not measured", "any, or a CPU"] if claim.profile == FULL else ["not estimated", "not estimated"]
    command = command_of(chapter.slug, entry) if _ready(chapter, claim) else ""
    return [_claim_cell(chapter, claim, command), paper or "–", *needs, data]


def _ready(chapter: Chapter, claim: Claim) -> bool:
    return claim.profile == FULL or entry_of(chapter.slug, claim) is not None


def _claim_cell(chapter: Chapter, claim: Claim, command: str) -> Html:
    """Return a claim, its kind and id, and the command that would run it."""
    name = chapter.title.partition(":")[0]
    text = f"{name}: {claim.text} ({claim.kind}, {claim.id})"
    said = f"{WIDE}{chapter_link(chapter, name)}: {as_markdown(claim.text)} ({claim.kind}, {as_markdown(claim.id)})"
    if not command:
        return Html(as_html(text), text, said)
    return Html(f"{as_html(text)}<br><code>{as_html(command)}</code>", f"{text}: {command}", f"{said}<br>`{command}`")


def _counted(ready: list[list[object]], open_: list[list[object]]) -> str:
    if not ready and not open_:
        return "No claim waits to be run."
    return (
        f"{len(ready) + len(open_)} claims were not run. For {len(ready)} of them a command stands below; for "
        f"{len(open_)} somebody has to write down the training first."
    )


def credited() -> list[Record]:
    """Return the records that name who ran them, of all chapters and of the networks that several start from."""
    found: list[Record | None] = []
    for slug in (BASELINES, *slugs()):
        if slug != BASELINES:
            found += [records.load(slug, profile) for profile in records.PROFILES]
        found += records.load_arms(slug)
    return [record for record in found if record is not None and record.credit]


def _credits() -> str:
    rows = [
        [
            record.credit,
            f"{record.slug}/{record.training.arm if record.training else record.profile}",
            record.device.name,
            f"{sum(record.seconds) / 3600:.1f}",
            record.created.partition("T")[0],
        ]
        for record in credited()
    ]
    if not rows:
        return "Nobody outside this book has sent a record yet."
    return markdown_table(rows, ("Run by", "Record", "On", "Hours", "Day"))


def looked_at(path: Path) -> list[str]:
    """Return what a record says, as text, and what the claims that it decides would become: for who reviews it.

    Raises
    ------
    ValueError
        If it is malformed, was changed, has no place in the repository or not the name of its place, is not of the
        training that its arm stands for, or holds a value that cannot be.
    """
    record = records.read(path)
    report.refuse(record, "path")
    arm = record.training.arm if record.training else None
    place = records.path_of(record.slug, record.profile, arm)
    if (path.resolve().parent.name, path.name) != (place.parent.name, place.name):
        raise ValueError(f"{path.name}: its place is records/{place.parent.name}/{place.name}")
    if record.training is not None and record.profile == TRAINED:
        _refuse_other_training(record)
    told = [
        f"{record.slug}/{path.stem}: seeds {', '.join(map(str, record.seeds))}, {record.device.kind} "
        f"{record.device.name!a}, commit {record.commit}, run by {record.credit or 'us'!a}"
    ]
    told += [f"  {name!a}: {' '.join(map(_number, record.values(name)))}" for name in record.names]
    if record.slug != BASELINES:
        told += [f"  {line}" for line in _decided(record)]
    return told


def _number(value: records.Value) -> str:
    return f"{len(value)} numbers" if isinstance(value, list) else quantity(value)


def _refuse_other_training(record: Record) -> None:
    """Raise ``ValueError`` where a record calls itself trained, and its recipe is not that of its arm."""
    training = record.training
    assert training is not None
    recipe = arms.find(Entry(record.slug, training.arm, TRAINED, 0, 0)).recipe
    for name, value in vars(recipe).items():
        if training.recipe.get(name) != value:
            found = f"{training.recipe.get(name)!r:.80}"
            where = f"path: the record {record.slug}/{record.profile}"
            raise ValueError(f"{where} has the recipe {name!r} {found}; the arm {training.arm!r} has {value!r}")


def _decided(record: Record) -> list[str]:
    """Return the verdicts of the claims that a record has all values for."""
    chapter = load(record.slug)
    own = [claim for claim in chapter.claims if claim.profile == record.profile]
    judged = [judge(claim, record, slug=record.slug) for claim in own if set(claim.rule.names) <= set(record.names)]
    return [f"{SYMBOLS[one.level]} {one.word}: {one.claim.id}: {one.reason}" for one in judged]
