"""A table for people: the only place that counts a column's width."""

from collections.abc import Collection, Sequence


def padded(lines: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> list[list[str]]:
    """Lines of equally many cells, each cell as wide as its column: ready to be coloured and joined.

    :param left: the columns that begin on the left, such as names; the others are figures, and end on the right
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        [
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    ]


def aligned(lines: Sequence[Sequence[str]], left: Collection[int] = (0,), indent: int = 0) -> str:
    """The same as one text, the heads first."""
    return "\n".join(" " * indent + "  ".join(line).rstrip() for line in padded(lines, left))
