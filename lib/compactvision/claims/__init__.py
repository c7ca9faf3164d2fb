"""Claims: what a paper says, written down before the run, and what our records say to it."""

from compactvision.claims.schema import Chapter, Claim, Rule, load, slugs

__all__ = ["Chapter", "Claim", "Rule", "load", "slugs"]
