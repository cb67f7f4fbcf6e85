"""The documents: made again they are the same, what they tell one to do runs, links lead on, the site is quiet."""

import ast
import html
import inspect
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import typing
from pathlib import Path

import pytest
from typer.models import OptionInfo

from tslens.cli.main import app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
COMMANDS = DOCS / "commands"
BLOCK = re.compile(
    r"<!-- (?P<mark>tested[^>]*) -->\n```(?P<language>\w+)\n(?P<code>.*?)```(?:\n\n```text\n(?P<shown>.*?)```)?",
    re.DOTALL,
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
SMALLER = (  # what the tutorial does with many stories and a larger model
    (
        r"tslens heads --model l1_h256 --n-stories \d+",
        "tslens heads --model l1_h64 --n-stories 12 --n-explain 0",
    ),
    (r"tslens ablate --model l1_h256 --n-stories \d+", "tslens ablate --model l1_h64 --n-stories 12"),
    (r"write_stories\(60", "write_stories(16"),
    (r"n_explain=60", "n_explain=5"),
)
RESOURCE = re.compile(
    r"<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?\bsrc=[\"']?(?P<src>[^\"'\s>]+)"
    r"|<link\b(?P<link>[^>]*)>"
    r"|url\([\"']?(?P<url>[^\"')]+)"
    r"|@import\s+[\"'](?P<imported>[^\"']+)"
)


def blocks(page):
    """The blocks of a page that are marked as tested."""
    return list(BLOCK.finditer((DOCS / page).read_text(encoding="utf-8")))


def every_command():
    """The functions of all commands by what one types, read from where typer keeps what was registered."""
    groups = {"": app, **{f"{group.name}-": group.typer_instance for group in app.registered_groups}}
    return {
        prefix + (command.name or command.callback.__name__): command.callback
        for prefix, group in groups.items()
        for command in group.registered_commands
    }


# Pages of commands ----------------------------------------------------------------------------------------------


def test_pages_of_commands_made_again_are_the_same_bytes(tmp_path):
    (tmp_path / "gone.md").write_text("# A command that is no more\n", encoding="utf-8")
    runpy.run_path(str(DOCS / "make_commands.py"))["main"](tmp_path)
    made = {page.name: page.read_bytes() for page in tmp_path.iterdir()}
    kept = {page.name: page.read_bytes() for page in COMMANDS.iterdir()}
    assert made.keys() == kept.keys(), "make the pages again: python docs/make_commands.py"
    assert [name for name in made if made[name] != kept[name]] == [], "python docs/make_commands.py"


def test_every_command_has_a_page_with_all_its_options_and_examples():
    for name, command in every_command().items():
        page = (COMMANDS / f"{name}.md").read_text(encoding="utf-8")
        assert page.startswith(f"# tslens {name.replace('-', ' ', 1) if '-' in name else name}\n")
        for hint in typing.get_type_hints(command, include_extras=True).values():
            for info in getattr(hint, "__metadata__", ()):
                for written in info.param_decls or () if isinstance(info, OptionInfo) else ():
                    for option in written.split("/"):
                        assert f"`{option}`" in page, (name, option)
        for paragraph in inspect.getdoc(command).split("\n\n"):
            if paragraph.startswith("Example: "):
                example = " ".join(paragraph.removeprefix("Example: ").split())
                assert f"```sh\n{example}\n```" in page, name


def test_every_page_of_a_command_is_in_the_list_of_commands():
    listed = set(LINK.findall((COMMANDS / "index.md").read_text(encoding="utf-8")))
    assert listed == {page.name for page in COMMANDS.glob("*.md")} - {"index.md"}


def test_text_of_a_help_is_shown_as_it_is():
    markdown = pytest.importorskip("markdown", reason="the documents' packages are not installed")
    escape = runpy.run_path(str(DOCS / "make_commands.py"))["_escape"]
    for text in (
        "a|b <i>c</i> *d* _e_ [f](g) `h` &lt; \\",
        "<|endoftext|>",
        "l1_h256 and l2_h128",
        "x > y & z",
    ):
        table = f"| one | two |\n|---|---|\n| {escape(text)} | end |\n"
        shown = markdown.markdown(table, extensions=["tables"])
        cells = [html.unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", shown)]
        assert cells == [text, "end"]


# Links and pictures ---------------------------------------------------------------------------------------------


def test_every_relative_link_leads_to_something():
    n_links = 0
    for page in (ROOT / "README.md", *sorted(DOCS.rglob("*.md"))):
        for link in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
            if "://" in link:
                continue
            target, _, anchor = link.partition("#")
            found = (page.parent / target).resolve() if target else page
            assert found.is_file(), f"{page.name}: {link}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
                slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
                assert anchor in slugs, f"{page.name}: {link}"
            n_links += 1
    assert n_links > 60


def test_pictures_are_small_and_shown():
    shown = (DOCS / "gallery.md").read_text(encoding="utf-8")
    pictures = sorted((DOCS / "gallery").iterdir())
    assert 4 <= len(pictures) <= 6
    for picture in pictures:
        assert picture.read_bytes()[:4] == b"\x89PNG"
        assert picture.stat().st_size < 150_000, picture.name
        assert f"](gallery/{picture.name})" in shown


# What the documents tell one to do ------------------------------------------------------------------------------


def same_line(shown, found):
    """Whether a line says what another does, its decimals within 0.02: another processor may round otherwise."""
    of_shown, of_found = (re.split(r"(\d+\.\d+)", " ".join(line.split())) for line in (shown, found))
    return of_shown[::2] == of_found[::2] and [float(x) for x in of_shown[1::2]] == pytest.approx(
        [float(x) for x in of_found[1::2]], abs=0.02
    )


def in_order(shown, printed):
    """Whether all lines that a page shows are among those printed, in this order; "..." stands for any."""
    rest = iter(printed.splitlines())
    return all(
        line.strip() == "..." or any(same_line(line, found) for found in rest) for line in shown.splitlines()
    )


def test_a_line_is_the_same_up_to_rounding():
    assert in_order("a 0.27 x\n...\nc", "a  0.28 x\nb\nc\n")
    assert not in_order("a 0.27 x", "a 0.31 x")
    assert not in_order("a 0.27 x", "a 0.27 y")
    assert not in_order("c\na", "a\nc")


@pytest.mark.filterwarnings("ignore::UserWarning")  # twelve stories: intervals are too narrow, it says
def test_the_tutorial_runs_and_prints_what_it_shows(tslens, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    n_compared = 0
    for block in blocks("tutorial.md"):
        code = block["code"]
        for long, short in SMALLER:
            code = re.sub(long, short, code)
        if block["language"] == "python":
            exec(compile(code, "tutorial.md", "exec"), {})
            printed = capfd.readouterr().out
        else:
            printed = ""
            for line in code.splitlines():
                done = tslens(*shlex.split(line)[1:])
                assert done.code == 0, done.err
                printed += done.out
        assert printed.strip()
        if block["shown"] and code == block["code"]:
            assert in_order(block["shown"], printed), printed
            n_compared += 1
    assert n_compared >= 4
    assert (tmp_path / "heads.html").exists()
    assert (tmp_path / "antecedents.html").exists()


def test_the_code_on_probes_runs_and_finds_what_it_plants(capfd):
    smallest, tokens, planted = blocks("add-a-probe.md")
    names: dict[str, object] = {}
    exec(compile(smallest["code"], "add-a-probe.md", "exec"), names)
    assert capfd.readouterr().out.count("last_verb") == 2
    exec(compile(tokens["code"], "add-a-probe.md", "exec"), {})
    exec(compile(planted["code"], "add-a-probe.md", "exec"), names)
    even, found = map(float, re.findall(r"\d\.\d+", capfd.readouterr().out))
    assert even < 0.06
    assert found == pytest.approx(0.3 + 0.7 * even, abs=0.02)


def test_the_probe_of_tokens_on_the_page_is_the_one_of_the_package():
    page = ast.parse(blocks("add-a-probe.md")[1]["code"])
    module = ast.parse((ROOT / "tslens" / "probes" / "previous_token.py").read_text(encoding="utf-8"))
    of_page, of_module = (
        next(ast.dump(node) for node in tree.body if isinstance(node, ast.ClassDef))
        for tree in (page, module)
    )
    assert of_page == of_module


# The site -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as strictly as can be; tests of it skip where mkdocs is not installed."""
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: the extra docs brings it")
    pytest.importorskip("material", reason="mkdocs-material is not installed: the extra docs brings it")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_no_page_of_the_site_asks_for_anything_on_the_network(site):
    pages = [path for path in site.rglob("*") if path.suffix in (".html", ".css")]
    assert len([page for page in pages if page.suffix == ".html"]) > 35
    n_resources = 0
    for page in pages:
        for found in RESOURCE.finditer(page.read_text(encoding="utf-8")):
            asked = found["src"] or found["url"] or found["imported"]
            if found["link"] is not None:
                asked = re.search(r"href=[\"']?([^\"'\s>]+)", found["link"])[1]
            assert not re.match(r"(https?:)?//", asked), f"{page.name}: {asked}"
            if page.suffix == ".html" and page.name != "404.html" and not asked.startswith("data:"):
                assert (page.parent / asked.split("?")[0].split("#")[0]).exists(), f"{page.name}: {asked}"
            n_resources += 1
    assert n_resources > 100


def test_the_site_has_all_pages_in_its_navigation(site):
    start = (site / "index.html").read_text(encoding="utf-8")
    linked = set(re.findall(r'href="([^"#]+\.html)"', start))
    for name in every_command():
        assert f"commands/{name}.html" in linked
    for page in ("tutorial", "add-a-probe", "gallery", "methods", "formats", "architecture"):
        assert f"{page}.html" in linked
    assert not list(site.rglob("*.py"))


@pytest.mark.browser
def test_the_site_is_searched_from_its_files(site):
    sync_api = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = chromium.new_page()
        asked, noise = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: noise.append(message.text))
        page.on("pageerror", lambda error: noise.append(str(error)))
        page.goto((site / "commands" / "heads.html").as_uri())
        page.click(".md-search__input")
        page.keyboard.type("antecedent")
        page.wait_for_selector(".md-search-result__item")
        assert "methods.html" in " ".join(
            link.get_attribute("href") for link in page.query_selector_all(".md-search-result__link")
        )
        assert [url for url in asked if not url.startswith("file:")] == []
        assert noise == []
        chromium.close()
