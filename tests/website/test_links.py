"""What is taken for a link, and which links are faults."""

from pathlib import Path

from website import links


def test_links_are_found_outside_code_and_addresses_of_other_machines_left_out() -> None:
    text = "[a](b.md#c) and ![p](q.png) `[x](y.md)` [w](https://w.example)\n\n```md\n[n](o.md)\n```\n[m](mailto:m@m)"
    assert links.links(text) == ["b.md#c", "q.png"]


def test_headings_have_the_names_that_github_gives_them() -> None:
    text = (
        "# What happened, and why\n## `a.trace`\n## Twice\n## Twice\n### See [it](x.md)\n```sh\n# none\n```\n"
    )
    assert links.anchors(text) == {"what-happened-and-why", "atrace", "twice", "twice-1", "see-it"}


def test_a_link_to_no_file_no_heading_or_a_file_outside_is_broken(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside.md").write_text("")
    (root / "there.md").write_text("# Here\n")
    page = root / "page.md"
    page.write_text(
        "# Own\n[](there.md#here) [](#own) [](there.md#gone) [](#none) [](gone.md) [](../outside.md)"
    )
    assert links.broken(page, root) == ["there.md#gone", "#none", "gone.md", "../outside.md"]


def test_a_built_site_has_its_pages_anchors_and_files(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "index.html").write_text('<h2 id="part">Part</h2>')
    (tmp_path / "style.css").write_text("")
    page = tmp_path / "index.html"
    page.write_text(
        '<link href="style.css"><a href="other/#part">o</a><a href="./?q=1">me</a><p>plain - text</p>'
    )
    assert links.faults_of_site(tmp_path) == []
    page.write_text(
        '<script src="https://cdn.example/x.js"></script><a href="other/#none">o</a><img src="gone.png">'
        "<p>a list:\n- that is none</p>"
    )
    assert links.faults_of_site(tmp_path) == [
        "index.html loads https://cdn.example/x.js from another machine",
        "index.html shows Markdown as text: 'a list:\\n- that is none'",
        "index.html links to other/#none, which is not there",
        "index.html links to gone.png, which is not there",
    ]
