"""The style sheet of profiler-report.html: light and dark, by the system or by choice, on paper light."""

LIGHT = """color-scheme: light; --page: #f4f6f8; --card: #ffffff; --ink: #17202b; --soft: #55606e; --line: #dde3e9;
  --good: #17693f; --bad: #a8330a; --note: #6b5200; --goodbg: #e6f4ec; --badbg: #fdece4; --notebg: #fbf3da;
  --accent: #0b5cad; --heat: #b0410e; --waiting: #c8423b; --preparing: #e0a02c; --forward: #3f8fd6;
  --backward: #1f5796; --optimizer: #3f9c86; --rest: #b4bec8; --stage: #8b6fc0;
  --c0: #0b5cad; --c1: #c4570b; --c2: #17793f; --c3: #8b3fb5; --c4: #b0244f; --c5: #0f7c86; --c6: #7a6a00;
    --c7: #5b6776;"""
DARK = """color-scheme: dark; --page: #10141a; --card: #181e27; --ink: #e7ebf1; --soft: #a0acba; --line: #2c3643;
  --good: #63d698; --bad: #ff9b6b; --note: #ecc95a; --goodbg: #13291d; --badbg: #34190d; --notebg: #2c2510;
  --accent: #74b7ff; --heat: #ff9a5a; --waiting: #ff6f66; --preparing: #f2bf58; --forward: #6fb6f5;
  --backward: #3d7cc4; --optimizer: #5cc4a9; --rest: #4a5665; --stage: #b39ae6;
  --c0: #6db3ff; --c1: #ffa45c; --c2: #5fd394; --c3: #cf96f2; --c4: #ff86a8; --c5: #5fd0da; --c6: #d9c65a;
    --c7: #9aa7b6;"""
COLOURS = ("waiting", "preparing", "forward", "backward", "optimizer", "rest", "stage")

STYLE = f"""
:root {{ {LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root:not(:has(#theme-light:checked)) {{ {DARK} }} }}
:root:has(#theme-dark:checked) {{ {DARK} }}
"""
STYLE += """
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", sans-serif; }
.skip { position: absolute; left: -999px; } .skip:focus { left: 12px; top: 12px; background: var(--card);
  padding: 8px; }
main, header > div { max-width: 1080px; margin: 0 auto; padding: 0 20px; }
header { background: var(--card); border-bottom: 1px solid var(--line); padding: 22px 0 14px; }
header > div { display: flex; flex-wrap: wrap; gap: 10px 24px; align-items: flex-start; }
header > div > div { flex: 1 1 280px; min-width: 0; }
.eyebrow { color: var(--soft); font-size: 13px; letter-spacing: .04em; text-transform: uppercase; margin: 0; }
h1 { font-size: 25px; line-height: 1.25; margin: 2px 0 0; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 40px 0 12px; } h3 { font-size: 15px; margin: 26px 0 10px; }
nav { width: 100%; } nav ul { display: flex; flex-wrap: wrap; gap: 4px 18px; list-style: none; padding: 0;
  margin: 6px 0 0; }
a { color: var(--accent); text-underline-offset: 3px; }
a:focus-visible, input:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.theme { border: 1px solid var(--line); border-radius: 8px; padding: 2px 10px 4px; margin: 0; font-size: 13px;
  color: var(--soft); }
.theme legend { padding: 0 4px; } .theme label { margin-right: 8px; white-space: nowrap; cursor: pointer; }
.theme input { accent-color: var(--accent); margin: 0 4px 0 0; vertical-align: -1px; }
.card, figure { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.finding { border-left: 5px solid var(--c7); padding: 14px 18px; margin: 0 0 12px; border-radius: 10px; }
.finding h3 { margin: 0 0 4px; font-size: 16px; } .finding p { margin: 4px 0 0; } .finding b { font-weight: 600; }
.finding.bad { border-left-color: var(--bad); background: var(--badbg); } .finding.bad h3 { color: var(--bad); }
.finding.good { border-left-color: var(--good); background: var(--goodbg); } .finding.good h3 { color: var(--good); }
.finding.note { border-left-color: var(--note); background: var(--notebg); } .finding.note h3 { color: var(--note); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(148px, 1fr)); gap: 12px; margin: 0 0 14px; }
.tile { padding: 12px 16px; } .tile dt { color: var(--soft); font-size: 13px; }
.tile dd { margin: 0; font-size: 21px; font-weight: 600; font-variant-numeric: tabular-nums; white-space: nowrap; }
.tile small { display: block; font-size: 12px; font-weight: 400; color: var(--soft); white-space: normal; }
.tile.bad dd { color: var(--bad); }
.pad { padding: 14px 18px; margin-bottom: 14px; } .pad > b { display: block; margin-bottom: 8px; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: 4px 20px; margin: 0; }
.facts dt { color: var(--soft); } .facts dd { margin: 0; overflow-wrap: anywhere; }
.share { display: flex; height: 26px; border-radius: 6px; overflow: hidden; gap: 1px; }
.share i { display: block; flex: 1 1 0; min-width: 0; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 2px 18px; padding: 0; margin: 8px 0 0;
  font-size: 13px; color: var(--soft); }
.legend i, .key i { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 6px;
  vertical-align: -1px; }
.legend b { color: var(--ink); font-weight: 600; font-variant-numeric: tabular-nums; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 14px;
  margin-bottom: 14px; }
.pair figure { margin: 0; min-width: 0; }
figure { margin: 0 0 14px; padding: 12px 18px 12px 12px; break-inside: avoid; }
figcaption { font-size: 13px; color: var(--soft); margin: 0 0 10px 6px; display: flex; flex-wrap: wrap;
  gap: 0 14px; align-items: baseline; }
figcaption b { color: var(--ink); font-size: 14px; } .key { white-space: nowrap; }
.plot { display: grid; grid-template-columns: 3.9em minmax(0, 1fr); grid-template-rows: var(--h) 1.7em;
  font-size: 11.5px; color: var(--soft); }
.plot svg { width: 100%; height: 100%; overflow: visible; display: block; }
.plot span { position: absolute; white-space: nowrap; font-variant-numeric: tabular-nums; line-height: 1; }
.y { position: relative; } .y span { right: .8em; transform: translateY(50%); }
.x { position: relative; grid-column: 2; } .x span { top: .6em; transform: translateX(-50%); }
.x span:first-child { transform: none; } .x span[style="left:100%"] { transform: translateX(-100%); }
path { vector-effect: non-scaling-stroke; fill: none; } .grid { stroke: var(--line); stroke-width: 1; }
.line { stroke-width: 1.7; stroke-linejoin: round; }
.loose { stroke-width: 4; stroke-linecap: round; } .band { fill-opacity: .16; stroke: none; }
.dot { stroke: var(--c4); stroke-width: 6; stroke-linecap: round; } .key i.dot { background: var(--c4);
  border-radius: 50%; }
.bar { stroke: none; fill-opacity: .85; } .marker { stroke: var(--ink); stroke-width: 1.6; }
.m1 { stroke-dasharray: 6 4; } .m2 { stroke-dasharray: 2 4; }
.key i.marker { width: 14px; height: 0; border-radius: 0; border-top: 2px solid var(--ink); vertical-align: 4px; }
.key i.m1 { border-top-style: dashed; } .key i.m2 { border-top-style: dotted; }
.heat { fill: var(--heat); shape-rendering: crispEdges; } .area { stroke: none; }
.scale i { display: inline-block; width: 12px; height: 11px; background: var(--heat); vertical-align: -1px; }
.note, .lead { color: var(--soft); margin: 8px 0 0; } .note { font-size: 13px; } figure .note { margin-left: 6px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); font-size: 13px; padding: 10px 16px 2px; }
th, td { padding: 9px 16px; text-align: left; vertical-align: top; border-top: 1px solid var(--line);
  font-weight: 400; }
thead th { color: var(--soft); font-size: 13px; white-space: nowrap; border-top: 0; } .n { text-align: right; }
td small, th small { color: var(--soft); display: block; } tbody th b { font-weight: 600; }
.limits { font-size: 12.5px; color: var(--soft); overflow-wrap: anywhere; }
.state { font-weight: 600; white-space: nowrap; } .state.good { color: var(--good); } .state.bad { color: var(--bad); }
.state.none { font-weight: 400; color: var(--soft); white-space: normal; }
footer { max-width: 1080px; margin: 48px auto 40px; padding: 14px 20px 0; color: var(--soft); font-size: 13px;
  border-top: 1px solid var(--line); }
@media (max-width: 680px) {
  main, header > div { padding: 0 14px; } h1 { font-size: 21px; } .tile { padding: 10px 12px; }
  .tiles { grid-template-columns: 1fr 1fr; gap: 8px; } .tile dd { font-size: 18px; }
  .facts { grid-template-columns: 1fr; gap: 0; } .facts dd { margin-bottom: 8px; }
  .stack thead { position: absolute; left: -9999px; } .stack tr { display: block;
    border-top: 1px solid var(--line); padding: 10px 0; }
  .stack th, .stack td { display: block; border: 0; padding: 2px 14px; text-align: left; }
  .stack td[data-label]::before { content: attr(data-label) ": "; color: var(--soft); }
  .wide { overflow-x: auto; } .wide th, .wide td { padding: 7px 9px; white-space: nowrap; }
  .wide caption { white-space: normal; padding: 8px 9px; max-width: 80vw; }
  .plot { grid-template-columns: 3.4em minmax(0, 1fr); }
}
"""
PAPER = ":root, :root:has(#theme-dark:checked), :root:not(:has(#theme-light:checked))"
STYLE += f"@media print {{ {PAPER} {{ {LIGHT} }}\n"
STYLE += """ body { font-size: 12px; background: #fff; } .theme, nav, .skip { display: none; }
 * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } .finding, tr, .card { break-inside: avoid; } }
"""
for index in range(8):
    STYLE += (
        f".line.s{index} {{ stroke: var(--c{index}); }} .band.s{index}, .bar.s{index} {{ fill: var(--c{index}); }}\n"
    )
    STYLE += f".key i.s{index}, .legend i.s{index} {{ background: var(--c{index}); }}\n"
STYLE += "".join(f".{name} {{ fill: var(--{name}); }} i.{name} {{ background: var(--{name}); }}\n" for name in COLOURS)
