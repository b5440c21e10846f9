"""Recipes: settings read from files, mappings and command lines, checked, and written again."""

import json
import reprlib
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from .errors import GanaugError, suggest
from .runs import read_regular
from .settings import Recipe, takes_duration

LONGEST = 2**20  # bytes of a recipe

RecipeLike = Recipe | Mapping[str, Any] | str | Path | None


def load_recipe(recipe: RecipeLike = None, base: Recipe | None = None) -> Recipe:
    """A recipe from a file (.yaml, .yml, .toml), a nested mapping such as {"fit": {"steps": 2000}}, or a `Recipe`.

    `base` gives the values that it does not set, in place of the defaults. Raises `GanaugError` naming every unknown key
    or wrong value and what was expected.
    """
    values: Mapping[str, Any] = {} if base is None else base.model_dump()
    if isinstance(recipe, Recipe):
        values = _merge(values, recipe.model_dump(exclude_unset=True))
    elif isinstance(recipe, Mapping):
        values = _merge(values, recipe)
    elif recipe is not None:
        values = _merge(values, _read_recipe_file(Path(recipe)))
    try:
        found = Recipe.model_validate(values)
    except ValidationError as error:
        raise GanaugError(
            "\n".join(dict.fromkeys(_explain(item) for item in _merge_branches(error.errors())))
        ) from None
    _refuse_half_characters(found)
    return found


def _refuse_half_characters(recipe: Recipe) -> None:
    """Raises `GanaugError` for a text that could not be written to any file, as escapes of YAML and bytes of the shell may give it."""
    try:
        json.dumps(recipe.model_dump(), ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        raise GanaugError(
            f"a setting has a text that is not valid Unicode: {error.object[max(0, error.start - 30) : error.end]!r}. Write it as UTF-8."
        ) from None


def keep_settled(wanted: Recipe, stored: Recipe) -> Recipe:
    """`wanted` with what a run has settled already, wherever it leaves that open."""
    settled = {}
    for stage, names in {
        "data": ("image_size", "mirror"),
        "fit": ("precision", "steps", "threads", "width", "batch_size", "compile"),
    }.items():
        asked, known = getattr(wanted, stage), getattr(stored, stage)
        still_open = [name for name in names if getattr(asked, name) in ("auto", None)]
        settled[stage] = asked.model_copy(update={name: getattr(known, name) for name in still_open})
    return wanted.model_copy(update=settled)


def load_recipe_mapping(recipe: Path | None, overrides: Sequence[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """What a recipe file, `stage.key=value` texts and a nested mapping set, later ones over earlier ones; not validated."""
    values = _merge({}, {} if recipe is None else _read_recipe_file(recipe))
    for override in overrides:
        values = _merge(values, _parse_override(override))
    return _merge(values, given)


def dump_recipe(recipe: Recipe, stages: Collection[str] = tuple(Recipe.model_fields)) -> str:
    """The recipe, or some stages of it, as YAML that `load_recipe` reads back to the same settings."""
    return yaml.safe_dump(recipe.model_dump(mode="json", include=set(stages)), sort_keys=False)


def _read_recipe_file(path: Path) -> Mapping[str, Any]:
    try:
        from_shell = path.parts[:2] == ("/", "dev")  # what it has in the place of a file, such as that of <(command)
        text = (_read_stream(path) if from_shell else read_regular(path, LONGEST)).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise GanaugError(f"the recipe {path} cannot be read: {error}. Give a YAML or TOML text file.") from None
    try:
        values = tomllib.loads(text) if path.suffix == ".toml" else _parse_yaml(text)
    except (ValueError, RecursionError) as error:
        kind, reason = "TOML" if path.suffix == ".toml" else "YAML", " ".join(str(error).split())[:300]
        raise GanaugError(f"the recipe {path} is not valid {kind}: {reason}.") from None
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise GanaugError(
            f"the recipe {path} must hold sections such as 'fit:' with 'key: value' lines, not a {type(values).__name__}."
        )
    return {
        stage: settings for stage, settings in values.items() if settings is not None
    }  # a heading with nothing below


def _read_stream(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(LONGEST + 1)
    if len(content) > LONGEST:
        raise OSError(f"it has more than {LONGEST:,} bytes")
    return content


class _Loader(yaml.SafeLoader):
    """YAML without aliases, by which a few lines unfold to billions, and without keys that stand twice."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("it has an alias, such as *name; write the value out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"it has the key {twice} twice")
        return super().construct_mapping(node, deep)


def _parse_yaml(text: str) -> Any:
    """Raises `ValueError` or `RecursionError`."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def _parse_override(text: str) -> Mapping[str, Any]:
    key, separator, value = text.partition("=")
    stage, dot, name = key.strip().partition(".")
    if not separator or not dot or not name:
        raise GanaugError(f"--set expects stage.key=value, for example fit.steps=2000; got {text!r}.")
    try:
        parsed = _parse_yaml(value)
    except (ValueError, RecursionError):
        parsed = value
    section = Recipe.model_fields.get(stage)
    field = getattr(section and section.annotation, "model_fields", {}).get(name)
    if field is not None and takes_duration(field) and isinstance(parsed, int | float):
        parsed = value  # as typed, so that it must have a unit
    return {stage: {name: parsed}}


def _merge(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """The stages of both; of a stage the settings of both, of which a later value replaces an earlier one whole."""
    merged = dict(base)
    for stage, settings in extra.items():
        below = merged.get(stage)
        if isinstance(below, Mapping) and isinstance(settings, Mapping):
            settings = {**below, **settings}
        merged[stage] = settings
    return merged


def _merge_branches(items: Sequence[Any]) -> list[Any]:
    """One error for each setting: one that may be of several kinds has an error, and a part of its path, for each of them."""
    merged: dict[tuple[str, ...], Any] = {}
    for item in items:
        path = tuple(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden" or all(isinstance(part, int) for part in item["loc"][2:]):
            merged[path] = item
        elif path[:2] in merged:
            merged[path[:2]]["msg"] += f"; or {item['msg'][0].lower()}{item['msg'][1:]}"
        else:
            merged[path[:2]] = {**item, "loc": path[:2]}
    return list(merged.values())


def _explain(item: Any) -> str:
    path = [str(part) for part in item["loc"]]
    name = ".".join(path)
    if item["type"] == "extra_forbidden":
        stage = "".join(f"{part}." for part in path[:-1])
        return f"unknown setting {name}: {suggest(path[-1], _known_keys(path[:-1]), before=stage)}"
    message = item["msg"].removeprefix("Value error, ")
    return f"setting {name} = {_show(item['input'])}: {message[0].lower()}{message[1:]}."


def _show(value: object) -> str:
    """Of a value from outside, so much as a line may hold."""
    try:
        return reprlib.repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return "a number of very many digits"


def _known_keys(path: Sequence[str]) -> list[str]:
    model: type[BaseModel] = Recipe
    for part in path:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)
