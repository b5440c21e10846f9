"""The documentation site: sphinx-build -W -b html recipes/docs OUT. Needs no network.

Pages are Markdown. What the code knows itself, its settings, its commands and its docstrings, is read from it at every build.
"""

import json
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from sphinx.application import Sphinx
from sphinx.util import inspect
from sphinx.util.inspect import stringify_signature

import ganaug
from ganaug.cli import main
from ganaug.progress import format_duration
from ganaug.settings import Recipe, parse_duration

project, author, copyright = "ganaug", "the authors of ganaug", "the authors of ganaug, MIT"
version = release = ganaug.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "ganaug"
html_static_path, html_css_files = ["static"], ["ganaug.css"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "tango"
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80

RECIPE_LIKE = "~ganaug.settings.Recipe | ~collections.abc.Mapping[str, ~typing.Any] | str | ~pathlib.Path | None"
BOUNDS = {
    "ge": "at least {}",
    "gt": "above {}",
    "le": "at most {}",
    "lt": "below {}",
    "multiple_of": "a multiple of {}",
}
WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false"}


# settings


def describe_settings() -> str:
    """Every setting of every stage as Markdown."""
    lines = []
    for stage, field in Recipe.model_fields.items():
        model = field.annotation
        assert isinstance(model, type) and issubclass(model, BaseModel)
        lines += [f"## {stage}", "", *re.sub(r"\s*\n\s*", " ", (model.__doc__ or "").strip()).splitlines(), ""]
        for name, setting in model.model_fields.items():
            default = describe_default(setting)
            lines += [f"```{{confval}} {stage}.{name}", f":type: {describe_kind(setting.annotation, setting.metadata)}"]
            lines += [f":default: {default}", "", setting.description or "", "```", ""]
    return "\n".join(lines)


def describe_default(setting: FieldInfo) -> str:
    value = setting.default
    if value is None or value == ():
        return "not set" if value is None else "none"
    if is_duration(setting.metadata):
        return f"`{format_duration(value)}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`[{', '.join(map(str, value))}]`" if isinstance(value, tuple) else f"`{value}`"


def describe_kind(annotation: Any, metadata: Any = ()) -> str:
    """The kind of a setting and its range in words: `whole number, at least 1`."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return describe_kind(parts[0], [*parts[1:], *metadata])
    if is_duration(metadata):
        kind = "duration such as `90s`, `5m` or `1h30m`; in recipe files and Python also a number of seconds"
    elif origin is Literal:
        kind = " or ".join(", ".join(f"`{part}`" for part in some) for some in (parts[:-1], parts[-1:]) if some)
    elif origin in (Union, types.UnionType):
        kind = ", or ".join(describe_kind(part) for part in parts if part is not type(None))
    elif origin is tuple:
        kind = f"list of {describe_kind(parts[0])}" if parts[-1] is Ellipsis else f"two numbers, {bounds(parts[0])}"
    elif origin is dict:
        kind = f"mapping from class to {describe_kind(parts[1])}"
    else:
        kind = WORDS.get(annotation, "path")
    limits = bounds(Annotated[int, *metadata]) if metadata else ""
    return f"{kind}, {limits}" if limits else kind


def is_duration(metadata: Any) -> bool:
    return any(getattr(part, "func", None) is parse_duration for part in metadata)


def bounds(annotation: Any) -> str:
    """`at least 0.2, at most 1`, of an annotated number."""
    flat = [each for part in get_args(annotation)[1:] for each in getattr(part, "metadata", [part])]
    found = [text.format(getattr(part, key)) for part in flat for key, text in BOUNDS.items() if hasattr(part, key)]
    return ", ".join(dict.fromkeys(found))


# commands


def describe_commands() -> str:
    """Every command with its arguments and options as Markdown."""
    return "\n".join(["", *(line for name in main.commands for line in describe_command(name, main.commands[name]))])


def describe_command(name: str, command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=f"ganaug {name}")
    yield from (f"## ganaug {name}", "", f"```{{program}} ganaug {name}", "```", "")
    yield from ("```text", " ".join([f"ganaug {name}", *command.collect_usage_pieces(context)]), "```", "")
    for paragraph in re.split(r"\n\s*\n", (command.help or "").strip()):
        if paragraph.startswith("\b"):
            yield from ("```text", *(line.strip() for line in paragraph.splitlines()[1:]), "```", "")
        else:
            yield from (escape(" ".join(paragraph.split())), "")
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if isinstance(parameter, click.Option) and record is not None:
            yield from (
                f"````{{option}} {record[0].replace(' [', ' {').replace(']', '}')}",
                "",
                escape(record[1]),
                "````",
                "",
            )


def escape(text: str) -> str:
    """Plain text as Markdown: all but `literals` is escaped."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([\\*_<>\[\]|#])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


# docstrings


def as_rst(lines: list[str]) -> list[str]:
    """A docstring of ganaug's as reStructuredText. Its parameters are lines `name: what` or columns `name   what`, with what
    follows indented, several of them on a line parted by a semicolon and two spaces; all else is prose, with `literals`."""
    made: list[str] = []
    for paragraph in re.split(r"\n[ \t]*\n", "\n".join(lines).strip("\n")):
        items = re.split(r"\n(?=\S)|;  +", paragraph)
        if re.match(r"\w+ {2,}\S", paragraph):  # columns, of which the longest name has one space behind it
            pattern = r"([a-z]\w*) +(\S.*)"
        else:
            pattern = r"([A-Za-z]\w*(?:, [A-Za-z]\w*)*)(?:: (\S.*)|$)" if ": " in paragraph else "$^"
        matches = [re.fullmatch(pattern, item.strip(), re.DOTALL) for item in items]
        if all(matches):
            for match in filter(None, matches):
                names = ", ".join(f"``{name}``" for name in match[1].split(", "))
                made += [names, f"   {inline(match[2])}", ""] if match[2] else [f"{names}", ""]
        else:
            made += [inline(paragraph), ""]
    return made


def inline(text: str) -> str:
    """Prose on one line, its literals marked as reStructuredText wants it."""
    parts = " ".join(text.split()).split("`")
    parts[::2] = [re.sub(r"([\\*|]|(?<=\w)_(?=\W|$))", r"\\\1", part) for part in parts[::2]]
    return "``".join(parts)


def rewrite_docstring(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    lines[:] = as_rst(lines)


def rewrite_signature(
    app: Sphinx, what: str, name: str, value: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """The signature of a recipe would be that of all settings of all stages, and what stands for one has a name."""
    if name == "ganaug.Recipe":
        return "", None
    if what == "class" and signature == "(*args, **kwargs)":  # as a class that it is made from takes them
        own = inspect.signature(value.__init__, bound_method=True)
        signature = stringify_signature(own, show_return_annotation=False, unqualified_typehints=True)
    return (signature.replace(RECIPE_LIKE, "RecipeLike") if signature else signature), returns


def skip_member(app: Sphinx, what: str, name: str, value: Any, skip: bool, options: Any) -> bool | None:
    """What scikit-learn and pydantic add to classes."""
    return True if re.fullmatch(r"set_\w+_request|model_\w+|\w+_private", name) else None


def fill_page(app: Sphinx, page: str, source: list[str]) -> None:
    """Puts what is read from the code, and from what was measured, in its place."""
    made = {
        "settings": describe_settings,
        "commands": describe_commands,
        "names": describe_names,
        "side by side": describe_side_by_side,
    }
    source[0] = re.sub(rf"<!-- ({'|'.join(made)}) -->", lambda found: made[found[1]](), source[0])


def describe_names() -> str:
    """Every public name: the functions, which are the stages, then the classes."""
    public = {name: getattr(ganaug, name) for name in ganaug.__all__}
    found: dict[str, list[str]] = {"Functions": [], "Classes": []}
    for name, value in public.items():
        kind = "function" if not isinstance(value, type) else "exception" if issubclass(value, Exception) else "class"
        members = "" if kind == "function" else "\n   :members:"
        block = f"```{{eval-rst}}\n.. auto{kind}:: ganaug.{name}{members}\n```"
        found["Functions" if kind == "function" else "Classes"].append(block)
    return "\n\n".join(part for title, blocks in found.items() for part in (f"## {title}", *blocks))


# figures


def describe_side_by_side() -> str:
    """What `recipes/benchmarks/side_by_side.py` counted, as a table of Markdown."""
    path = Path(__file__).parents[1] / "benchmarks" / "results" / "side_by_side.json"
    counted = json.loads(path.read_text(encoding="utf-8"))["measured"]["counted"]
    own = counted["ganaug"]
    lines = [f"| | {' | '.join(counted)} |", "|---|" + "---|" * len(counted)]
    for name, key in (("commands to type", "commands"), ("files to write", "files"), ("*steps*", "steps")):
        lines.append(f"| {name} | {' | '.join(str(tool[key]) for tool in counted.values())} |")
    lines.append(f"| *lines*, commands among them | {' | '.join(str(tool['lines']) for tool in counted.values())} |")
    for key in ("steps", "lines"):
        shares = (f"{100 * own[key] / tool[key]:.0f} %" if tool is not own else "" for tool in counted.values())
        lines.append(f"| ganaug's {key}, of these | {' | '.join(shares)} |")
    return "\n".join(lines)


def setup(app: Sphinx) -> None:
    app.connect("source-read", fill_page)
    app.connect("autodoc-process-docstring", rewrite_docstring)
    app.connect("autodoc-process-signature", rewrite_signature)
    app.connect("autodoc-skip-member", skip_member)
