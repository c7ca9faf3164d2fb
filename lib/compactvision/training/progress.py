"""The progress bar."""

import warnings


class Bar:
    """One tqdm bar over all steps of a run; it appears after two seconds and vanishes at the end.

    Shown in notebooks and terminals, not where the output goes into a file; with `show` False tqdm is not imported.
    """

    def __init__(self, show: bool):
        self.show = show
        self.bar = None

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def start(self, done: int, total: int | None) -> None:
        """Open the bar with `done` of `total` steps behind it."""
        if not self.show:
            return
        with warnings.catch_warnings():  # tqdm warns where the notebook has no widgets, and then draws text
            warnings.simplefilter("ignore")
            from tqdm.auto import tqdm
        self.bar = tqdm(initial=done, total=total, unit="step", delay=2, leave=False, disable=None, dynamic_ncols=True)

    def step(self) -> None:
        """One step done."""
        if self.bar is not None:
            self.bar.update()

    def note(self, row: dict) -> None:
        """Show the numbers of the epoch that has ended."""
        if self.bar is not None:
            shown = {name: f"{row[name]:.4g}" for name in ("epoch", "train_loss", "val_accuracy") if name in row}
            self.bar.set_postfix(shown, refresh=False)
