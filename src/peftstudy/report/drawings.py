"""The report's figures for a screen: SVG whose marks link to their runs, in the colours of the page around it."""

import io
import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from xml.etree import ElementTree

from matplotlib.figure import Figure

from peftstudy import figures
from peftstudy.report.plotting import INKS, MARKS, style
from peftstudy.study import Study

SVG, XLINK = "http://www.w3.org/2000/svg", "{http://www.w3.org/1999/xlink}href"
# Text stays text, which a screen may set in a font of its own: that is narrower than the one reckoned with.
SCREEN = {"font.family": "DejaVu Sans", "svg.fonttype": "none"}
COLOURS = {
    **{mark.lower(): f"var(--mark-{i}, {mark})" for i, mark in enumerate(MARKS) if mark != "#000000"},
    **{ink.lower(): f"var(--ink-{i}, {ink})" for i, ink in enumerate(INKS) if ink != "#000000"},
    "#000000": "currentColor", "#ffffff": "var(--paper, #fff)", "#ebebeb": "var(--grid, #ebebeb)",
    "#737373": "var(--muted, #737373)",
}  # fmt: skip
"""The colours of the figures -> those of the page, which has a dark side, too."""

Describe = Callable[[str], str]
"""A place, as runs are named -> what stands there, in a few words."""


def drawings(kind: str, data: SimpleNamespace, study: Study, describe: Describe) -> Iterator[str]:
    """Yield the drawings of one kind of figure, as SVG elements."""
    for file, figure in figures.drawn(kind, data, study, **SCREEN):
        yield drawing(figure, file.removesuffix(".pdf"), f"{kind}-caption", describe)


def drawing(figure: Figure, name: str, caption: str, describe: Describe) -> str:
    """Return a figure as an SVG element for a page; name: what makes its ids unlike those of other figures.

    A mark links to the place of its run or cell and says in its tooltip what that is. The element is one image
    to a reader who cannot see it, and its words are those of the element with the id `caption`.
    """
    text = io.StringIO()
    with style(**SCREEN):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    ElementTree.register_namespace("", SVG)
    root = ElementTree.fromstring(text.getvalue())
    root.remove(root.find(f"{{{SVG}}}defs"))  # a style of matplotlib's for every element of the page
    for metadata in root.findall(f"{{{SVG}}}metadata"):
        root.remove(metadata)
    for attribute in ("width", "height", "version"):
        del root.attrib[attribute]
    root.set("role", "img")
    root.set("aria-labelledby", caption)
    _link(root, describe)
    _name_apart(root, name)
    return _coloured(re.sub(r"\s*\n\s*", "\n", ElementTree.tostring(root, encoding="unicode")))


def _link(root: ElementTree.Element, describe: Describe) -> None:
    """Give each mark of a line a link of its own: matplotlib knows one a line."""
    for parent in root.iter():
        for link in parent.findall(f"{{{SVG}}}a"):
            places = link.get(XLINK).split()
            marks = list(link)
            each = places if len(places) == len(marks) else places * len(marks) if len(places) == 1 else []
            at = list(parent).index(link)
            parent.remove(link)
            # A curve through several places is none of them; its marks are.
            linked = (
                [_linked(mark, place, describe) for mark, place in zip(marks, each, strict=True)] if each else marks
            )
            for offset, element in enumerate(linked):
                parent.insert(at + offset, element)


def _linked(mark: ElementTree.Element, place: str, describe: Describe) -> ElementTree.Element:
    # The tables have the same links for the keyboard; a hundred dots would be in its way.
    link = ElementTree.Element(f"{{{SVG}}}a", {"href": f"#{place}", "tabindex": "-1"})
    ElementTree.SubElement(link, f"{{{SVG}}}title").text = describe(place)
    link.append(mark)
    return link


def _name_apart(root: ElementTree.Element, name: str) -> None:
    """Leave those ids that something refers to, and make them the figure's own."""
    kept = set(re.findall(r"(?:#)([\w-]+)", ElementTree.tostring(root, encoding="unicode")))
    for element in root.iter():
        identity = element.attrib.pop("id", None)
        if identity in kept and element.tag in (f"{{{SVG}}}path", f"{{{SVG}}}clipPath"):
            element.set("id", f"{name}-{identity}")
        if XLINK in element.attrib:
            element.set("href", f"#{name}-{element.attrib.pop(XLINK).removeprefix('#')}")
        if "clip-path" in element.attrib:
            element.set("clip-path", element.get("clip-path").replace("url(#", f"url(#{name}-"))


def _coloured(svg: str) -> str:
    svg = svg.replace("font-family: 'DejaVu Sans'; ", "")  # the page has its own
    return re.sub(r"#[0-9a-f]{6}\b", lambda found: COLOURS.get(found[0], found[0]), svg)
