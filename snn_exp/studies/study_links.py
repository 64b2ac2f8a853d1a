"""Links to studies in a text that names them. No torch."""

from __future__ import annotations

import re

from snn_exp import escaping
from snn_exp.studies.spec import names, studies_root


def linked(text: str, to: str, but: str = "") -> str:
    """Return plain text as Markdown in which each name of a study is a link, to its page or else to its file.

    Args:
        text: such as the note of a study.
        to: the path to the studies' folders.
        but: the study whose own name stays as it is.
    """
    words = sorted(set(names()) - {but}, key=len, reverse=True)
    if not words:
        return escaping.markdown(text)

    def link(found: re.Match[str]) -> str:
        name = found[0]
        page = "README.md" if (studies_root() / name / "README.md").is_file() else "study.yaml"
        return f"[{name}]({to}{name}/{page})"

    return re.sub(rf"(?<!\w)({'|'.join(map(re.escape, words))})(?!\w)", link, escaping.markdown(text))
