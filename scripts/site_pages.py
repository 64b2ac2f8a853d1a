"""Hook of mkdocs: bring in the pages that are not in docs/, and write one page per config group.

README.md, CONTRIBUTING.md, studies/*/README.md, benchmarks/*.md and what they link to come as they are; their links,
which hold in the repository, are turned into those of the site. There docs/ is the root, and everything else keeps its
place. The pages in parts/ are made anew at every build from the registries, the config files and the constructors'
docstrings.
"""

from __future__ import annotations

import html
import inspect
import posixpath
import re
from pathlib import Path
from typing import Any

from markdown import Extension, Markdown
from markdown.blockprocessors import ListIndentProcessor, OListProcessor, UListProcessor
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from snn_exp.cli.options import comment, option_files, parameters
from snn_exp.config import schemas
from snn_exp.config.experiment import SETTINGS
from snn_exp.config.hydra_setup import config_dir
from snn_exp.registry import Parameter

ROOT = Path(__file__).parents[1]
TAKEN_IN = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "studies/*/README.md", "benchmarks/*.md")
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#|/)([^)\s#]+)(#[^)\s]*)?(?=\))")
ITEM = re.compile(r" *([-*]|\d+\.) ")
SECTION = re.compile(r"^(Equation|Definition|Shapes|Args|Raises|Source|Example): ?", re.MULTILINE)
GROUPS = {  # group -> what its options decide
    "dataset": "The samples, and how they are split.",
    "augment": "What happens to a training image.",
    "encoding": "How a sample becomes the input of each time step.",
    "network": "The architecture.",
    "depth": "The number of weight layers.",
    "residual": "The residual block, and where its norms, neurons and shortcut stand.",
    "neuron": "What turns a current into spikes, or into another activation.",
    "surrogate": "What stands for the derivative of the spike in the backward pass.",
    "synapse": "The filter between a spike and the current that it causes.",
    "norm": "The normalization between a weight layer and its neuron.",
    "weight_norm": "The normalization of the weights themselves.",
    "weight_quant": "The precision of the weights.",
    "init": "How weights start.",
    "optim": "Optimiser, schedule and loss.",
    "trainer": "Length, precision and device of training. Most of it decides nothing about the result.",
    "logger": "Copies of a run beside its folder.",
    "energy": "Price lists, which turn counted operations into energy.",
    "method": "Named bundles of choices, each a row of a table.",
    "experiment": "Named runs and sweeps.",
}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill in the pages that the navigation names with a star, and read lists as GitHub does."""
    found = [_on_site(path.relative_to(ROOT).as_posix()) for pattern in TAKEN_IN for path in sorted(ROOT.glob(pattern))]
    found += [f"parts/{group}.md" for group in option_files()]
    config.nav = [_filled(entry, found) for entry in config.nav or []]
    config.markdown_extensions.append(ListsAsOnGitHub())  # type: ignore[arg-type]
    return config


def _filled(entry: Any, found: list[str]) -> Any:
    if not isinstance(entry, dict):
        return entry
    ((title, pages),) = entry.items()
    if isinstance(pages, str):
        return entry
    starred = {page: [f for f in found if f.startswith(page[:-1])] for page in pages if page.endswith("*")}
    return {title: [name for page in pages for name in starred.get(page, [page])]}


class ListsAsOnGitHub(Extension):
    """Nest lists that are indented by two spaces, where Python-Markdown asks for four."""

    def extendMarkdown(self, md: Markdown) -> None:
        """Make the list processors anew with that indentation."""
        usual, md.tab_length = md.tab_length, 2
        processors = md.parser.blockprocessors
        for kind, name, priority in (
            (ListIndentProcessor, "indent", 90),
            (OListProcessor, "olist", 40),
            (UListProcessor, "ulist", 30),
        ):
            processors.deregister(name)
            processors.register(kind(md.parser), name, priority)
        md.tab_length = usual


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from elsewhere in the repository, what they link to, and the pages of the parts."""
    for pattern in TAKEN_IN:
        for path in sorted(ROOT.glob(pattern)):
            files.append(File.generated(config, _on_site(path.relative_to(ROOT).as_posix()), abs_src_path=str(path)))
    for group in option_files():
        files.append(File.generated(config, f"parts/{group}.md", content=_page(group)))
    for page in list(files.documentation_pages()):
        for target, _ in LINK.findall(page.content_string):
            linked = _in_repository(page.src_uri, target)
            if (ROOT / linked).is_file() and not files.get_file_from_path(_on_site(linked)):
                files.append(File.generated(config, _on_site(linked), abs_src_path=str(ROOT / linked)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links that hold in the repository into those that hold on the site."""

    def turned(found: re.Match[str]) -> str:
        target, anchor = found[1], found[2] or ""
        uri = _on_site(_in_repository(page.file.src_uri, target))
        if files.get_file_from_path(uri) is None:
            return found[0]  # mkdocs says what is wrong with it
        return posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or ".") + anchor

    added = _index() if page.file.src_uri == "parts/index.md" else ""
    return _lists_apart(LINK.sub(turned, markdown)) + added


def _lists_apart(markdown: str) -> str:
    """Put a blank line before each list that follows a paragraph: Python-Markdown asks for one, GitHub does not."""
    lines: list[str] = []
    in_code = in_list = False  # the lines since the last blank one began with an item
    for line in markdown.splitlines():
        item = ITEM.match(line) is not None
        if line.lstrip().startswith("```"):
            in_code = not in_code
        elif not in_code and item and not in_list and lines and lines[-1].strip():
            lines.append("")
        in_list = bool(line.strip()) and (in_list or item)
        lines.append(line)
    return "\n".join(lines)


def _on_site(path: str) -> str:
    return path.removeprefix("docs/")


def _in_repository(page: str, link: str) -> str:
    """Return the path in the repository that a link on a page stands for."""
    here = page if (ROOT / page).is_file() else f"docs/{page}"
    return posixpath.normpath(posixpath.join(posixpath.dirname(here), link))


def _index() -> str:
    """Return a table of all groups, which is added to the page that introduces them."""
    rows = [
        f"| [`{group}`]({group}.md) | {GROUPS.get(group, '')} | {', '.join(f'`{name}`' for name in files)} |"
        for group, files in option_files().items()
    ]
    return "\n".join(["", "", "| group | decides | options |", "|---|---|---|", *rows, ""])


def _page(group: str) -> str:
    """Return the page of a config group: each option with its equation, parameters, units and source."""
    files = option_files(group)[group]
    head = f"# {group}\n\n{GROUPS.get(group, '')} Chosen by `{group}=NAME`.\n"
    if group in SETTINGS and group != "energy":  # options that differ in their values alone
        head += "\n" + _table(parameters(group, next(iter(files))))
    return head + "".join(f"\n## {name}\n\n{_option(group, name, file)}" for name, file in files.items())


def _option(group: str, name: str, file: Path) -> str:
    option = schemas.load().get(group, {}).get(name)
    text = _prose(comment(file)) + "\n"
    if option:
        lead, *sections = SECTION.split(inspect.cleandoc(schemas.registry_of(group)[name].__doc__ or ""))
        of = dict(zip(sections[::2], sections[1::2], strict=True))
        text = f"{_prose(lead)}\n" if lead.startswith(comment(file).rstrip(".")) else f"{text}\n{_prose(lead)}\n"
        text += "".join(
            f"\n{_block(title, of[title])}" for title in ("Equation", "Definition", "Shapes") if title in of
        )
        text += _table(parameters(group, name))
        text += f"\n**Source**: {_prose(of['Source'])}\n" if "Source" in of else ""
        text += "\n" + _block("Example", of["Example"], "pycon") if "Example" in of else ""
        return text
    if group == "energy":
        constants = tuple(p for p in parameters(group, name) if p.name != "name")
        return text + _table(constants).replace("| default |", "| value |")
    return f"{text}\n```yaml\n{(config_dir() / group / file.name).read_text().strip()}\n```\n"


def _block(title: str, text: str, language: str = "text") -> str:
    return f"**{title}**\n\n```{language}\n{inspect.cleandoc(text)}\n```\n"


def _table(found: tuple[Parameter, ...]) -> str:
    rows = [f"| `{p.name}` | `{_default(p)}` | {_prose(p.allowed)} | {_prose(p.doc)} |" for p in found]
    return "\n".join(["\n| parameter | default | allowed | meaning |", "|---|---|---|---|", *rows, ""]) if rows else ""


def _default(p: Parameter) -> str:
    """Return the default as one types it."""
    if isinstance(p.default, bool) or p.default is None:
        return "null" if p.default is None else str(p.default).lower()
    return f"{p.default:g}" if isinstance(p.default, float) else str(p.default)


def _prose(text: str) -> str:
    """Return a docstring's text as Markdown that shows it as it is; what stands between backticks stays code."""
    words = re.split(r"(`[^`]*`)", text.strip())
    plain = (html.escape(w, quote=False) if number % 2 == 0 else w for number, w in enumerate(words))
    return "".join(w if w.startswith("`") else re.sub(r"([\\*_|\[\]])", r"\\\1", w) for w in plain)
