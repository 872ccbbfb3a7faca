"""The packages and the imports between them as a picture (SVG), made from the import graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape

import grimp

PACKAGES = ("interject", "gateway", "channels", "agent", "config")
SHARED = "shared"

Graph = Mapping[str, frozenset[str]]
"""Each part with the parts that it imports."""

BOX_WIDTH, BOX_HEIGHT = 104, 30
COLUMN, ROW = 118, 58
MARGIN, HEAD, GAP = 16, 34, 64

STYLE = """\
text { font: 13px system-ui, sans-serif; fill: #1c1f24; text-anchor: middle; dominant-baseline: central; }
.name { font-weight: 600; font-size: 15px; }
.note { font-size: 12px; fill: #4f5661; }
.package { fill: #f3f3ef; stroke: #cfcfc8; }
.part { fill: #ffffff; stroke: #4255c8; }
path { fill: none; stroke: #8b929d; stroke-width: 1.2; marker-end: url(#arrow); }
.between { stroke: #4255c8; stroke-width: 2.2; marker-end: url(#arrow); }
#arrow path { fill: #6a717c; stroke: none; marker-end: none; }"""


def architecture() -> str:
    """The picture as SVG. Arrows within a package that follow from others are left out."""
    modules = imports()
    parts = {package: inside(package, modules) for package in PACKAGES}
    boxes = _arranged(parts)
    lines = [line for package in PACKAGES for line in boxes[package].drawn(package, parts[package])]
    width = max(box.x + box.width for box in boxes.values()) + MARGIN
    height = max(box.y + box.height for box in boxes.values()) + MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}">',
            f"<title>Packages and imports</title><style>{STYLE}</style>",
            '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            'orient="auto-start-reverse"><path d="M0 0 8 4 0 8z"/></marker></defs>',
            f'<rect width="{width}" height="{height}" rx="8" fill="#fcfcfa"/>',
            *lines,
            *_between(between(modules), boxes),
            "</svg>\n",
        ]
    )


def imports() -> Graph:
    """Each module of ours with the modules of ours that it imports."""
    graph = grimp.build_graph(*PACKAGES)
    return {module: frozenset(graph.find_modules_directly_imported_by(module)) for module in graph.modules}


def between(modules: Graph) -> Graph:
    """The imports between the packages."""
    return _collapsed(modules, {module: module.partition(".")[0] for module in modules})


def inside(package: str, modules: Graph) -> Graph:
    """The imports between the subpackages and modules of a package. Modules below every subpackage are one part."""
    names = {module: module.split(".")[1] for module in modules if module.startswith(f"{package}.")}
    subpackages = {module.split(".")[1] for module in names if module.count(".") > 1}
    graph = _collapsed(modules, names)
    shared = {name for name in graph if name not in subpackages and not _reached(name, graph) & subpackages}
    if not subpackages:
        return {}
    if len(shared) < 2:
        return graph
    return _collapsed(graph, {name: SHARED if name in shared else name for name in graph})


def reduced(graph: Graph) -> Graph:
    """Without the imports that follow from others."""
    return {
        name: imported - frozenset().union(*(_reached(other, graph) for other in imported))
        for name, imported in graph.items()
    }


def _collapsed(graph: Graph, names: Mapping[str, str]) -> Graph:
    found: dict[str, set[str]] = {name: set() for name in names.values()}
    for part, imported in graph.items():
        if part in names:
            found[names[part]] |= {names[other] for other in imported if other in names} - {names[part]}
    return {name: frozenset(imported) for name, imported in sorted(found.items())}


def _reached(name: str, graph: Graph) -> frozenset[str]:
    """Everything that a part imports, directly or not."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        new = graph[waiting.pop()] - found
        found |= new
        waiting += new
    return frozenset(found)


def _rows(graph: Graph) -> list[list[str]]:
    """From the top: each part is above everything that it imports."""
    depth: dict[str, int] = {}

    def depth_of(name: str) -> int:
        if name not in depth:
            depth[name] = 0  # in case of a cycle
            depth[name] = max((depth_of(other) + 1 for other in graph[name]), default=0)
        return depth[name]

    for name in graph:
        depth_of(name)
    return [[name for name in graph if depth[name] == row] for row in sorted(set(depth.values()), reverse=True)]


@dataclass(frozen=True, slots=True)
class _Box:
    """The place of a package: the upper left corner and the size."""

    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        return self.x + self.width / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height

    def drawn(self, package: str, parts: Graph) -> Iterator[str]:
        yield _rectangle("package", self.x, self.y, self.width, self.height)
        yield _text("name", self.middle, self.y + HEAD / 2 + 2, f"{package}/")
        places = {
            name: (self.middle + (column - (len(row) - 1) / 2) * COLUMN, self.y + HEAD + 22 + number * ROW)
            for number, row in enumerate(_rows(parts))
            for column, name in enumerate(row)
        }
        for name, imported in reduced(parts).items():
            yield from (_arrow(*places[name], *places[other]) for other in sorted(imported))
        for name, (x, y) in places.items():
            yield _rectangle("part", x - BOX_WIDTH / 2, y - BOX_HEIGHT / 2, BOX_WIDTH, BOX_HEIGHT)
            yield _text("", x, y, name)


def _size(parts: Graph) -> tuple[float, float]:
    rows = _rows(parts)
    widest = max((len(row) for row in rows), default=1)
    return max(widest * COLUMN + 2 * MARGIN, 130), HEAD + max(len(rows) * ROW - 10, 12)


def _arranged(parts: Mapping[str, Graph]) -> dict[str, _Box]:
    """`gateway` on top; `config`, `agent` and `channels` below it, `interject` beside it."""
    sizes = {package: _size(graph) for package, graph in parts.items()}
    below = MARGIN + sizes["gateway"][1] + GAP
    left = max(MARGIN + sizes["interject"][0] + GAP, MARGIN + sizes["config"][0] + GAP)
    gateway = _Box(left, MARGIN, *sizes["gateway"])
    agent = _Box(max(left, gateway.middle - sizes["agent"][0] / 2), below, *sizes["agent"])
    return {
        "interject": _Box(MARGIN, MARGIN, *sizes["interject"]),
        "gateway": gateway,
        "config": _Box(MARGIN, below, *sizes["config"]),
        "agent": agent,
        "channels": _Box(agent.x + agent.width + GAP, below, *sizes["channels"]),
    }


def _between(graph: Graph, boxes: Mapping[str, _Box]) -> Iterator[str]:
    """Arrows sideways between packages of one height, else down, along the gap, and down."""
    for package, imported in graph.items():
        for other in sorted(imported):
            source, target = boxes[package], boxes[other]
            if source.y == target.y and source.x > target.x:
                way = f"M{source.x:g} {source.y + HEAD / 2:g}H{target.x + target.width:g}"
            elif source.y == target.y:
                way = f"M{source.x + source.width:g} {source.y + HEAD / 2:g}H{target.x:g}"
            else:
                beside = package == "interject"
                start = source.x + 20 if beside else _within(target.middle, source)
                gap = target.y - GAP * (0.35 if beside else 0.65)
                end = _within(start, target)
                way = f"M{start:g} {source.bottom:g}V{gap:g}H{end:g}V{target.y:g}"
            yield f'<path class="between" d="{way}"/>'


def _within(x: float, box: _Box) -> float:
    return min(max(x, box.x + 20), box.x + box.width - 20)


def _arrow(x: float, y: float, to_x: float, to_y: float) -> str:
    start, end = y + BOX_HEIGHT / 2, to_y - BOX_HEIGHT / 2
    bend = (end - start) / 2
    return f'<path d="M{x:g} {start:g}C{x:g} {start + bend:g} {to_x:g} {end - bend:g} {to_x:g} {end:g}"/>'


def _rectangle(kind: str, x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>'


def _text(kind: str, x: float, y: float, text: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(text)}</text>'
