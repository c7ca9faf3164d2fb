"""Tables of published counts as text, for tests that compare with them."""


def rows(text):
    """Map the first column to the numbers behind it; columns stand between bars, "-" stands for None."""
    found = {}
    for line in text.strip().splitlines():
        name, *cells = (cell.strip() for cell in line.split("|"))
        found[name] = tuple(_number(cell) for cell in cells)
    return found


def _number(cell):
    if cell == "-":
        return None
    return float(cell) if "." in cell else int(cell)
