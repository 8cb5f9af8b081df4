"""QR codes in a terminal: two rows of squares in a line of text."""

from __future__ import annotations

from cocoon_cli.output import Screen

_BORDER = 2  # squares; the standard asks for four, and phones read two
_BLOCKS = {(0, 0): " ", (1, 0): "▀", (0, 1): "▄", (1, 1): "█"}
STYLE = "black on white"


def qr_lines(text: str) -> list[str]:
    """The code as lines of block characters, dark squares drawn, to be shown black on white."""
    import segno

    rows = [
        list(row) for row in segno.make(text, error="l", micro=False, boost_error=False).matrix_iter(border=_BORDER)
    ]
    if len(rows) % 2:
        rows.append([0] * len(rows[0]))
    return [
        "".join(_BLOCKS[bool(upper), bool(lower)] for upper, lower in zip(rows[at], rows[at + 1], strict=True))
        for at in range(0, len(rows), 2)
    ]


def draw_qr(screen: Screen, text: str) -> None:
    """Draw a code."""
    for line in qr_lines(text):
        screen.line((line, STYLE))
