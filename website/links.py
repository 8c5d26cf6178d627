"""Links: those of Markdown pages, as they stand on disk, and those of the site, as it was built."""

import dataclasses
import re
import urllib.parse
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

_FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"^ *(```+|~~~+).*?^ *\1 *$|`[^`\n]+`", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)(?: \"[^\"]*\")?\)")
_LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}
_LEFT_OVER = re.compile(r"^(?:- |\d+\. |```|\|.*\|$|#+ )", re.MULTILINE)


def links(text: str) -> list[str]:
    """What a Markdown text links to and shows, without addresses on other machines; code is left out."""
    found = _LINK.findall(_CODE.sub("", text))
    return [link for link in found if "://" not in link and not link.startswith("mailto:")]


def anchors(text: str) -> set[str]:
    """Names of a Markdown text's headings, as GitHub makes them: the second of two alike ends in -1."""
    counts: dict[str, int] = {}
    names = set()
    for heading in re.findall(r"^#+ +(.*?) *$", _FENCED.sub("", text), re.MULTILINE):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w -]", "", words.lower()).replace(" ", "-")
        names.add(name if name not in counts else f"{name}-{counts[name]}")
        counts[name] = counts.get(name, 0) + 1
    return names


def broken(page: Path, root: Path) -> list[str]:
    """Links of a Markdown page that lead to no file below `root`, or to no heading of it."""
    return broken_in(page.read_text(), page, root)


def broken_in(text: str, page: Path, root: Path) -> list[str]:
    """As `broken`, of a Markdown text that stands in the file `page`."""
    return [link for link in links(text) if not _leads_somewhere(text, page, link, root)]


def _leads_somewhere(text: str, page: Path, link: str, root: Path) -> bool:
    name, _, anchor = urllib.parse.unquote(link).partition("#")
    if not name:
        return anchor in anchors(text)
    there = (page.parent / name).resolve()
    if not there.is_relative_to(root) or not there.exists():
        return False
    return not anchor or (there.suffix == ".md" and anchor in anchors(there.read_text()))


@dataclasses.dataclass
class _Page(HTMLParser):
    """What a page of the site links to, loads, and can be reached at."""

    linked: list[str] = dataclasses.field(default_factory=list)
    loaded: list[str] = dataclasses.field(default_factory=list)
    names: set[str] = dataclasses.field(default_factory=set)
    left_over: list[str] = dataclasses.field(default_factory=list)
    _text: list[str] | None = None

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.names |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.linked.append(given["href"])
        if tag in _LOADED and _LOADED[tag] in given and given.get("rel") not in ("canonical", "prev", "next"):
            self.loaded.append(given[_LOADED[tag]])
        if tag == "p":
            self._text = []

    def handle_data(self, data: str) -> None:
        if self._text is not None:
            self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "p" and self._text is not None:
            text, self._text = "".join(self._text), None
            if _LEFT_OVER.search(text):
                self.left_over.append(text)


def faults_of_site(site: Path) -> list[str]:
    """What is wrong with a site that was built.

    Links and files that are not there, anchors without a place, what is loaded from other machines;
    and lists, tables and code that were not recognised.
    """
    pages = {path: _read(path) for path in sorted(site.rglob("*.html"))}
    return [fault for path, page in pages.items() for fault in _faults(path, page, pages, site)]


def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text())
    return page


def _faults(path: Path, page: _Page, pages: dict[Path, _Page], site: Path) -> Iterator[str]:
    where = path.relative_to(site)
    for address in page.loaded:
        if re.match(r"(?:\w+:)?//", address):
            yield f"{where} loads {address} from another machine"
    for text in page.left_over:
        yield f"{where} shows Markdown as text: {text[:80]!r}"
    for link in [*page.linked, *page.loaded]:
        if (
            not re.match(r"(?:\w+:|//|/)", link)
            and path.name != "404.html"
            and not _is_there(path, link, pages)
        ):
            yield f"{where} links to {link}, which is not there"


def _is_there(path: Path, link: str, pages: dict[Path, _Page]) -> bool:
    name, _, anchor = urllib.parse.unquote(link).partition("#")
    name = name.partition("?")[0]
    there = (path.parent / name).resolve() if name else path
    there = there / "index.html" if there.is_dir() else there
    if there not in pages:
        return there.exists() and not anchor
    return not anchor or anchor in pages[there].names
