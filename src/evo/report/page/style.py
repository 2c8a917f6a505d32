"""The page's style sheet. Colours are variables: light by default and in print, dark where the reader's screen is."""

from __future__ import annotations

from importlib.resources import files

VIRIDIS = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725")
"""Nine even steps of viridis, dark to bright: uniform to the eye and safe for the colour-blind."""
SHADES = 8
"""Classes of a colour scale. The highest stands out most: it is the darkest on light paper, the brightest on dark."""


def style_sheet() -> str:
    """The whole style sheet."""
    light, dark = _shades(VIRIDIS[SHADES - 1 :: -1]), _shades(VIRIDIS[1:])
    return (
        f":root{{{LIGHT}{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{DARK}{dark}}}}}\n"
        + "".join(f".q{shade}{{fill:var(--q{shade})}}" for shade in range(SHADES))
        + "\n"
        + files("evo.report.page").joinpath("style.css").read_text(encoding="utf-8")
    )


def _shades(colours: tuple[str, ...]) -> str:
    return "".join(f"--q{index}:{colour};" for index, colour in enumerate(colours))


LIGHT = """color-scheme:light;
--paper:#fdfdfc;--panel:#f5f5f2;--ink:#1c2025;--soft:#59616b;--rule:#dcdeda;--dots:#aeb4b8;
--line:#1d5fa6;--second:#a8530b;--good:#156b3d;--bad:#a8321f;--change:#7a5400;"""
DARK = """color-scheme:dark;
--paper:#14171a;--panel:#1c2024;--ink:#e4e7ea;--soft:#a0a8b1;--rule:#343a41;--dots:#5a636c;
--line:#74b3f2;--second:#eba35c;--good:#66cc8f;--bad:#ff8f7d;--change:#e2b75e;"""
