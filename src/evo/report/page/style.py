"""The page's style sheet. Colours are variables: light by default and in print, dark where the reader's screen is."""

from __future__ import annotations

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
        + RULES
    )


def _shades(colours: tuple[str, ...]) -> str:
    return "".join(f"--q{index}:{colour};" for index, colour in enumerate(colours))


LIGHT = """color-scheme:light;
--paper:#fdfdfc;--panel:#f5f5f2;--ink:#1c2025;--soft:#59616b;--rule:#dcdeda;--dots:#aeb4b8;
--line:#1d5fa6;--second:#a8530b;--good:#156b3d;--bad:#a8321f;--change:#7a5400;"""
DARK = """color-scheme:dark;
--paper:#14171a;--panel:#1c2024;--ink:#e4e7ea;--soft:#a0a8b1;--rule:#343a41;--dots:#5a636c;
--line:#74b3f2;--second:#eba35c;--good:#66cc8f;--bad:#ff8f7d;--change:#e2b75e;"""

RULES = """
*{box-sizing:border-box}
body{margin:0 auto;max-width:1160px;padding:1.4rem 1.2rem 4rem;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif;-webkit-text-size-adjust:100%}
h1{font-size:1.7rem;line-height:1.2;margin:0;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:2.4rem 0 .5rem;padding-top:.7rem;border-top:1px solid var(--rule)}
h3{font-size:1rem;margin:1.3rem 0 .4rem}
p{margin:.4rem 0;max-width:75ch}
a{color:var(--line)}
.soft,caption,figcaption,dt{color:var(--soft)}
.sub{margin:.15rem 0 1rem}
.good{color:var(--good)}.bad{color:var(--bad)}
code,pre,.id{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace;font-size:.87em}
pre{margin:.4rem 0;padding:.5rem .7rem;background:var(--panel);border-radius:4px;white-space:pre-wrap;
overflow-wrap:anywhere}
.patch span{display:block;padding-left:2ch;text-indent:-2ch}
.add{color:var(--good)}.del{color:var(--bad)}.chg{color:var(--change)}
.verdict{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:.8rem;margin:1rem 0}
.verdict section{padding:.7rem .9rem;background:var(--panel);border-left:4px solid var(--soft);border-radius:3px}
.verdict .yes{border-color:var(--good)}.verdict .no{border-color:var(--bad)}
.verdict h2{border:0;margin:0;padding:0;font-size:1rem}
.verdict p{margin:.3rem 0 0}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(12.5rem,1fr));gap:.7rem 1.2rem;margin:1rem 0}
.facts dt{font-size:.82rem}.facts dd{margin:0;font-size:1.12rem;font-variant-numeric:tabular-nums}
.facts dd small{display:block;font-size:.78rem;color:var(--soft)}
svg{display:block;width:100%;height:auto;overflow:visible}
svg text{font-size:12px;fill:var(--soft);font-family:inherit}
svg .name{fill:var(--ink)}
.axis{stroke:var(--rule);fill:none;stroke-width:1}
.cells{stroke:var(--dots);stroke-width:2.4;stroke-linecap:round;fill:none}
.elite{stroke:var(--ink);stroke-width:.6;stroke-opacity:.55}
.ring{fill:none;stroke:var(--ink);stroke-width:1.8}
.seed{fill:none;stroke:var(--ink);stroke-width:1.5}
.matrix{display:grid;grid-template-columns:repeat(var(--columns),minmax(0,1fr));gap:.5rem 1rem}
.curves{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,19rem),1fr));gap:1.1rem 1.6rem}
.curves figure,.matrix figure{margin:0}
.curves figcaption{color:var(--ink);font-weight:600;font-size:.92rem}
.curves figcaption small{font-weight:400;color:var(--soft);display:block;min-height:1.5em}
.line{fill:none;stroke:var(--line);stroke-width:2;stroke-linejoin:round}
.thin{stroke-width:1.2}
.line2{fill:none;stroke:var(--second);stroke-width:2;stroke-dasharray:5 4}
.point{fill:var(--line)}.point2{fill:var(--second)}.each{fill:var(--dots)}
.level{stroke:var(--soft);stroke-width:1.2;stroke-dasharray:2 3}
.level2{stroke:var(--second);stroke-width:1.5;stroke-dasharray:6 3}
svg .say2{fill:var(--second)}
.wide{max-width:60rem}
.run{fill:none;stroke:var(--dots);stroke-width:1;stroke-opacity:.7;stroke-linejoin:round}
.run.chosen0,.run.chosen1,.run.chosen2{stroke-width:2.4;stroke-opacity:1}
.run.chosen0{stroke:var(--line)}.run.chosen1{stroke:var(--second)}.run.chosen2{stroke:var(--good);stroke-dasharray:6 3}
.legend{display:flex;flex-wrap:wrap;gap:.1rem 1.2rem}
.legend .chosen0{color:var(--line)}.legend .chosen1{color:var(--second)}.legend .chosen2{color:var(--good)}
.key{max-width:26rem;margin:.2rem 0 .8rem}
.matrix .key,.matrix .glossary{grid-area:1/2/2/-1;margin:0 0 0 1.5rem;align-content:start}
.matrix .glossary{padding-top:4.4rem}
ol.line-of-descent{list-style:none;margin:.6rem 0;padding:0}
ol.line-of-descent>li{position:relative;padding:0 0 .9rem 1.4rem;border-left:2px solid var(--rule);margin-left:.4rem}
ol.line-of-descent>li:last-child{border-left-color:transparent;padding-bottom:0}
ol.line-of-descent>li::before{content:"";position:absolute;left:-7px;top:.35rem;width:12px;height:12px;border-radius:50%;
background:var(--paper);border:2px solid var(--line)}
ol.line-of-descent>li:last-child::before{background:var(--line)}
.step{display:flex;flex-wrap:wrap;gap:0 1rem;align-items:baseline;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.88rem;margin:.4rem 0}
caption{text-align:left;font-size:.88rem;padding:.1rem 0 .3rem}
th,td{text-align:left;padding:.16rem .9rem .16rem 0;border-bottom:1px solid var(--rule);vertical-align:top}
th{font-weight:600;border-bottom-color:var(--soft)}
tbody th{font-weight:400;border-bottom-color:var(--rule)}
.n{text-align:right;white-space:nowrap}
.best td,.best th{font-weight:700}
.words{min-width:8.5rem;overflow-wrap:anywhere}.words:last-child{min-width:14rem}
thead th{vertical-align:bottom}thead .n{white-space:normal;max-width:7rem}
details{margin:.5rem 0}summary{cursor:pointer;color:var(--line)}
.glossary{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem;font-size:.88rem;margin:.5rem 0;
max-width:100ch}
.glossary dt{color:var(--ink)}.glossary dd{margin:0;color:var(--soft)}
@media (max-width:760px){
body{font-size:16px;padding:1rem .8rem 3rem}
.matrix{grid-template-columns:repeat(2,minmax(0,1fr));gap:.6rem}
.matrix figure{grid-area:auto!important}
.matrix .key,.matrix .glossary{grid-area:auto;grid-column:1/-1;margin:0;padding:0}
.matrix figure text{font-size:17px}
.glossary{grid-template-columns:1fr}.glossary dd{margin-bottom:.4rem}
.facts{grid-template-columns:1fr 1fr}
}
@media print{
body{max-width:none;font-size:10.5pt;padding:0}
a{color:inherit;text-decoration:none}
details::details-content{content-visibility:visible;block-size:auto}
figure,li,tr,.verdict section{break-inside:avoid}h2,h3{break-after:avoid}
svg,.verdict section{print-color-adjust:exact;-webkit-print-color-adjust:exact}
}
"""
