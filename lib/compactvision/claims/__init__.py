"""Claims: what a paper says, written down before the run, and what our records say to it.

One file a chapter, ``claims/<slug>.toml``; its form is described in :mod:`compactvision.claims.schema`.
"""

from compactvision.claims.decision import decide
from compactvision.claims.folded import table
from compactvision.claims.pages import scorecard_page, status_page, write_pages
from compactvision.claims.picture import picture_page
from compactvision.claims.report import Scorecard, scorecard, tables
from compactvision.claims.rules import Verdict, judge, verdicts
from compactvision.claims.schema import Chapter, Claim, Rule, Statement, load, slugs

__all__ = [
    "Chapter",
    "Claim",
    "Rule",
    "Scorecard",
    "Statement",
    "Verdict",
    "decide",
    "judge",
    "load",
    "picture_page",
    "scorecard",
    "scorecard_page",
    "slugs",
    "status_page",
    "table",
    "tables",
    "verdicts",
    "write_pages",
]
