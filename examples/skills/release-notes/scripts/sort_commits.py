"""Sorts the lines of a file, one commit in each ("1a2b3c4 fix: a title"), under the headings of release notes."""

import re
import sys
from pathlib import Path

RULES = {
    "Breaking changes": r"^\w+(\(.*?\))?!:|BREAKING",
    "Left out": r"^(docs?|tests?|ci|chore|refactor)\b",
    "New": r"^(feat|adds?|new)\b",
    "Fixed": r"^(fix(es)?|repairs?|corrects?)\b",
}


def heading(subject: str) -> str:
    flags = {name: re.IGNORECASE if name != "Breaking changes" else 0 for name in RULES}
    return next((name for name, rule in RULES.items() if re.search(rule, subject, flags[name])), "To decide")


def main(path: str) -> None:
    sorted_lines: dict[str, list[str]] = {}
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        subject = re.sub(r"^[0-9a-f]{7,40}\s+", "", line.strip())
        if subject:
            sorted_lines.setdefault(heading(subject), []).append(subject)
    for name, lines in sorted_lines.items():
        print(f"## {name}", *(f"- {line}" for line in lines), sep="\n")  # noqa: T201  # it is what it is for


if __name__ == "__main__":
    main(sys.argv[1])
