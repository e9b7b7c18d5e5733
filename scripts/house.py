"""Check prose, names and density of the code, as STYLE.md asks for them.

    python -m scripts.house [--figures]

Prints each problem as `file:line: what is wrong. The cure.`, then the figures of the code beside
their limits, and exits with 1 if there is a problem or a limit is passed. With `--figures` only the
figures.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

PRODUCT = ("dagnb", "kernel_ext", "workers", "planners")
"""folders of the code that users install"""

DOCUMENTS = (
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "DECISIONS.md",
    "GLOSSARY.md",
    "STYLE.md",
    "benchmarks/README.md",
    "planners/README.md",
    "docs/contract.md",
)

HEADLESS = re.compile(r"(What|Who|Whoever|Whose|How|So|As|Where|When|Whether)\b")

WORDS = {
    "told": "say who writes or sends what: 'written', 'reported', 'given'",
    "foretold": "write 'predicted'",
    "nobody": "name the subject: 'no worker', 'no process', 'unmeasured functions'",
    "somebody": "name the subject: 'another worker', 'the user'",
    "whoever": "name the subject: 'the worker that', 'the caller that'",
}
"""words that leave out who does something -> what to write instead"""

LIMITS = {
    "characters a line": 36.0,
    "comments per 1,000 lines": 30.0,
    "comprehensions per 1,000 lines": 30.0,
    "conditional expressions per 1,000 lines": 18.0,
}
"""of code, without docstrings; comments at least so many, all else at most"""

_AT_LEAST = {"comments per 1,000 lines"}


@dataclass(frozen=True, order=True)
class Problem:
    """Something to mend. file: relative to the root; line: 1 where the file as a whole is meant."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


@dataclass(frozen=True)
class Source:
    """One file of code. file: its path relative to the root."""

    file: str
    text: str

    @property
    def tree(self) -> ast.Module:
        """The syntax tree of the file."""
        return ast.parse(self.text)

    def comments(self) -> Iterator[tuple[int, str]]:
        """Yields the line and the text of each comment."""
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string

    def docstrings(self) -> Iterator[tuple[ast.Constant, str]]:
        """Yields the node and the cleaned text of each docstring."""
        for node in ast.walk(self.tree):
            if not isinstance(
                node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
            ):
                continue
            text = ast.get_docstring(node)
            if not text:
                continue
            first = node.body[0]
            assert isinstance(first, ast.Expr)
            assert isinstance(first.value, ast.Constant)
            yield first.value, text


def sources(root: Path = ROOT) -> list[Source]:
    """Returns the files of the product that git knows, or will know."""
    command = ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run([*command, "*.py"], capture_output=True, text=True, check=True)
    names = [name for name in listed.stdout.split() if name.partition("/")[0] in PRODUCT]
    return [Source(name, (root / name).read_text("utf-8")) for name in sorted(names)]


# ---- rules ----


def headless_docstrings(code: Sequence[Source]) -> Iterator[Problem]:
    """Yields docstrings that begin with a question word instead of a verb or the thing."""
    for source in code:
        for node, text in source.docstrings():
            first = HEADLESS.match(text)
            if first:
                cure = "Begin with a verb ('Returns ...') or with the thing itself."
                yield Problem(
                    source.file, node.lineno, f"the docstring opens with '{first[0]}'. {cure}"
                )


def avoided_words(code: Sequence[Source]) -> Iterator[Problem]:
    """Yields comments and docstrings with a word that leaves out who does something."""
    for source in code:
        texts = [(node.lineno, text) for node, text in source.docstrings()]
        for line, text in [*texts, *source.comments()]:
            for word in re.findall(r"[a-z]+", text.lower()):
                if word in WORDS:
                    yield Problem(source.file, line, f"'{word}': {WORDS[word]}.")


def doubled_classes(code: Sequence[Source]) -> Iterator[Problem]:
    """Yields classes whose name another class has as well."""
    places: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for source in code:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append((source.file, node.lineno))

    for name, (first, *others) in places.items():
        for file, line in others:
            where = f"{first[0]}:{first[1]}"
            yield Problem(file, line, f"a class '{name}' is in {where} too. One name, one meaning.")


def unnamed_locals(code: Sequence[Source]) -> Iterator[Problem]:
    """Yields variables called `found`, which say nothing of what they hold."""
    for source in code:
        for node in ast.walk(source.tree):
            is_stored = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            if is_stored and node.id == "found":
                yield Problem(
                    source.file, node.lineno, "a variable 'found': name it after what it holds."
                )


_LINK = re.compile(r"\]\(([^)#\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_SUFFIXES = r"\.(py|md|toml|lua|js|css|ipynb|svg|png|cfg)"
_PATH = re.compile(rf"[\w.-]+(/[\w.-]+)*(/|{_SUFFIXES})|[\w-]+(/[\w-]+)+")

_FOLDERS = (*PRODUCT, "tests", "benchmarks", "docs", "notebooks", "scripts")

_OTHERS = {
    "requirements.txt",
    "helpers.py",
    ".venv/",
    "planners/dagnb_planners/round_robin.py",
}
"""files of users, those that scripts make, and the one of the first change in CONTRIBUTING"""


def prose(text: str) -> str:
    """Returns the text of a document without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def named_files(text: str) -> Iterator[tuple[int, str]]:
    """Yields the line and the text of links, and of code that looks like a file or a folder."""
    is_code = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            is_code = not is_code
        if is_code:
            continue
        for link in _LINK.findall(line):
            if "://" not in link:
                yield number, link
        for code in _CODE.findall(line):
            if _PATH.fullmatch(code):
                yield number, code


def missing_files(root: Path = ROOT) -> Iterator[Problem]:
    """Yields what documents name and what is not there."""
    folders = [
        path
        for top in _FOLDERS
        for path in (root / top, *(root / top).rglob("*"))
        if path.is_dir() and path.name != "__pycache__"
    ]

    def exists(name: str, document: Path) -> bool:
        relative = name.rstrip("/")
        if name in _OTHERS or (document.parent / relative).exists() or (root / relative).exists():
            return True
        return any(
            (folder / relative).exists() or (folder / f"{relative}.py").exists()
            for folder in (root, *folders)
        )

    for name in DOCUMENTS:
        document = root / name
        if not document.exists():
            continue
        for line, file in named_files(document.read_text("utf-8")):
            if not exists(file, document):
                yield Problem(name, line, f"names '{file}', which is not there.")


# ---- figures ----


def figures(code: Sequence[Source]) -> dict[str, float]:
    """Returns what LIMITS limits, and beside it the number of lines and of statements."""
    seen: Counter[str] = Counter()
    for source in code:
        seen.update(_counted(source))

    thousands = max(1, seen["lines"]) / 1_000
    return {
        "lines of code": seen["lines"],
        "statements": seen["statements"],
        "characters a line": seen["characters"] / max(1, seen["lines"]),
        "comments per 1,000 lines": seen["comments"] / thousands,
        "comprehensions per 1,000 lines": seen["comprehensions"] / thousands,
        "conditional expressions per 1,000 lines": seen["conditionals"] / thousands,
    }


_TOOLS = re.compile(r"#\s*(noqa|type:|fmt|pragma|!|----)")
"""comments for tools, and headings"""


def _counted(source: Source) -> Counter[str]:
    counted: Counter[str] = Counter()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.stmt):
            counted["statements"] += 1
        elif isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            counted["comprehensions"] += 1
        elif isinstance(node, ast.IfExp):
            counted["conditionals"] += 1

    counted["comments"] = sum(not _TOOLS.match(text) for _, text in source.comments())

    documentation: set[int] = set()
    for constant, _ in source.docstrings():
        documentation.update(range(constant.lineno, (constant.end_lineno or 0) + 1))
    for number, line in enumerate(source.text.splitlines(), 1):
        bare = line.strip()
        if bare and number not in documentation and not bare.startswith("#"):
            counted["lines"] += 1
            counted["characters"] += len(bare)
    return counted


def passed_limits(values: dict[str, float]) -> Iterator[str]:
    """Yields a line for each figure that is beyond its limit."""
    for name, limit in LIMITS.items():
        value = values[name]
        if name in _AT_LEAST and value < limit:
            yield f"{name}: {value:.1f}, at least {limit:.0f} are asked for."
        elif name not in _AT_LEAST and value > limit:
            yield f"{name}: {value:.1f}, more than the {limit:.0f} that are allowed."


def main(arguments: Sequence[str]) -> int:
    """Check this checkout. Returns the exit code."""
    code = sources()
    values = figures(code)
    problems: list[Problem] = []
    if "--figures" not in arguments:
        rules = (headless_docstrings, avoided_words, doubled_classes, unnamed_locals)
        problems = sorted(problem for rule in rules for problem in rule(code))
        problems += missing_files()

    for problem in problems:
        print(problem)
    for name, value in values.items():
        least = "at least" if name in _AT_LEAST else "at most"
        limit = f"  ({least} {LIMITS[name]:.0f})" if name in LIMITS else ""
        print(f"{name:44} {value:10,.1f}{limit}")
    beyond = list(passed_limits(values))
    for line in beyond:
        print(f"house: {line}")
    return 1 if problems or beyond else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
