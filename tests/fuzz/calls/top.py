"""Valid calls of the upper floors: records, claims, experiment, plots, the toy plane, what chapters share."""

from pathlib import Path

import matplotlib
from compactvision import claims, plots, records, toy_plane

from .. import objects as o

matplotlib.use("Agg")


def _axis():
    return plots.figure("What is this?")[1]


def _figure():
    return plots.figure("What is this?")[0]


def _verdicts():
    return claims.verdicts(o.CHAPTER)


def _record_file() -> Path:
    path = Path("record.json")
    records.write(o.record(), path)
    return path


def _plane():
    xy, classes = toy_plane.points("moons", 8, seed=0)
    shown = toy_plane.grid(xy)[:, 0].long()
    return {
        "title": "What does it say?",
        "rows": {"moons": (xy, classes, [("one", shown)])},
        "marked": {"moons": xy[:2]},
    }


CHAPTER = "chapter."
CALLS = {
    f"{CHAPTER}cifar10": lambda: {"run": o.run(), "name": "digits"},
    f"{CHAPTER}generator": lambda: {"run": o.run(), "stream": 1},
    f"{CHAPTER}mean_sd": lambda: {"source": o.run(), "name": o.number()},
    f"{CHAPTER}percent": lambda: {"run": o.run(), "name": o.number()},
    f"{CHAPTER}seed_bars": lambda: {"axis": _axis(), "values": {"a": [1.0, 2.0], "b": [2.0, 3.0]}},
    f"{CHAPTER}seed_lines": lambda: {"axis": _axis(), "x": [0.0, 1.0], "values": [[1.0, 2.0], [2.0, 3.0]]},
    "claims.pages.scorecard_page": lambda: {
        "card": claims.Scorecard(((claims.load(o.CHAPTER), tuple(_verdicts())),)),
    },
    "claims.report.Scorecard.summary": lambda: {
        "self": claims.Scorecard(((claims.load(o.CHAPTER), tuple(_verdicts())),)), "group": "exact",
    },
    "claims.folded.table": lambda: {"slug": o.CHAPTER},
    "claims.report.tables": lambda: {"found": _verdicts()},
    "claims.decision.decide": lambda: {"rule": o.claim().rule, "values": (1.0, 2.0), "kind": "scaled"},
    "claims.rules.judge": lambda: {"claim": o.claim(), "record": o.record()},
    "claims.rules.verdicts": lambda: {"slug": o.CHAPTER, "live": o.record()},
    "claims.schema.load": lambda: {"slug": o.CHAPTER},
    "experiment.run.Run.data": lambda: {"self": o.run(), "image_set": o.image_set()},
    "experiment.run.Run.log": lambda: {"self": o.run(), "name": "accuracy", "value": 0.5, "band": 0.1},
    "experiment.run.Run.record": lambda: {"self": o.run(), "profile": "quick"},
    "experiment.run.resolve_device": lambda: {"device": "cpu"},
    "experiment.run.stamp": lambda: {"device": "cpu"},
    "experiment.run.start": lambda: {"slug": o.CHAPTER},
    "plots.display.images": lambda: {"pictures": o.uniform(2, 3, 4, 4), "title": "What is it?", "titles": ["a", "b"]},
    "plots.display.interactive": lambda: {"markup": "<p>a</p>", "alt": "a text", "data": {"a": 1}},
    "plots.display.show": lambda: {"fig": _figure(), "alt": "nothing is there"},
    "plots.display.table": lambda: {"rows": [["a", 1], ["b", 2]], "columns": ["name", "number"], "caption": "Numbers"},
    "plots.display.widget": lambda: {"markup": "<p>a</p>", "alt": "a text", "data": {"a": 1}},
    "plots.listing.source": lambda: {"functions": (toy_plane.grid,)},
    "plots.style.figure": lambda: {"title": "What is this?", "height": 2.0},
    "records.provenance.commit": lambda: {"slug": o.CHAPTER},
    "records.provenance.describe_device": lambda: {"kind": "cpu"},
    "records.provenance.method_digest": lambda: {"files": ("proximal.py",)},
    "records.provenance.text_digest": lambda: {"files": ("proximal.py",)},
    "records.record.Record": lambda: dict(vars(o.record())),
    "records.record.Record.mean": lambda: {"self": o.record(), "name": o.number()},
    "records.record.Record.range": lambda: {"self": o.record(), "name": o.number()},
    "records.record.Record.sd": lambda: {"self": o.record(), "name": o.number()},
    "records.record.Record.values": lambda: {"self": o.record(), "name": o.number()},
    "records.stored.load": lambda: {"slug": o.CHAPTER, "profile": "quick"},
    "records.stored.load_arms": lambda: {"slug": "dcff"},
    "records.stored.path_of": lambda: {"slug": o.CHAPTER, "profile": "trained", "arm": "vgg16"},
    "records.stored.read": lambda: {"path": _record_file()},
    "records.stored.write": lambda: {"record": o.record(), "path": Path("other.json")},
    "toy_plane.grid": lambda: {"xy": o.normal(5, 2)},
    "toy_plane.network": lambda: {"name": "moons", "seed": 0, "n": 8, "width": 4, "steps": 2},
    "toy_plane.points": lambda: {"name": "spiral", "n": 8, "seed": 0},
    "toy_plane.regions": _plane,
}  # fmt: skip
AFTERWARDS: dict = {}
_SCALES = ("scale:half", "scale:1.5", "scale:-1")
FREE: dict[str, tuple[str, ...]] = {
    "claims.rules.judge": ("slug:unknown word", "slug:empty word", "slug:word with NUL"),  # a label of the verdict
    "chapter.mean_sd": ("name:unknown word", "name:empty word", *_SCALES),  # "–" for what is not known
    "chapter.percent": _SCALES,
    "experiment.run.Run.log": ("name:unknown word", "value:-1", "value:tensor of two"),
    "claims.decision.decide": ("values:of -1", "unit:unknown word", "unit:word with NUL"),
    "chapter.seed_bars": ("values:of -1", "values:number for a key", "values:unknown key"),
    "chapter.seed_lines": ("x:of -1", "values:of -1"),
    "plots.display.interactive": ("markup", "alt", "data"),
    "plots.display.show": ("alt",),
    "plots.display.table": ("caption", "columns:of text"),
    "plots.display.widget": ("markup", "alt", "data", "script", "style"),
    "plots.display.images": ("titles:of text",),
    "records.record.Record": (  # any text
        "created:unknown word",
        "method:unknown word",
        "notebook:unknown word",
        "versions:of text",
        "versions:unknown key",
    ),
    "records.stored.read": ("where:text", "where:empty text"),
    "toy_plane.regions": ("rows:unknown key",),
}
