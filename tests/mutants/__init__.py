"""Mutants: one line of a method broken at a time, on a copy of the package, to see which the tests notice.

``make mutants`` runs it. ``changes`` finds what can be broken, ``record`` which test runs which line, ``hunt`` runs the
tests of a mutant; ``judged.toml`` holds the survivors that compute the same, with the reason.
"""
