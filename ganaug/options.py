"""What the commands share: the group, with its manual and its errors, and options that are settings of a recipe."""

import re
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
from click.shell_completion import CompletionItem

from .errors import GanaugError, printable, suggest
from .progress import format_duration
from .recipe import load_recipe_mapping
from .runs import RunFolder, is_full
from .sessions import BEGUN, Stopped, command_again, signals_raise
from .settings import ARM_NAMES, Recipe, takes_duration

BAD_INPUT = 2  # exit code, as of a wrong option

SECTIONS = {  # of the manual, in the order of use
    "Your images": ("check",),
    "Synthetic images": ("fit", "synthesize", "browse", "audit"),
    "The verdict": ("compare", "report"),
    "The classifier": ("export-classifier", "predict"),
    "All of it": ("run", "demo"),
    "Beside": ("status", "completion"),
}

RESUMABLE = ("fit", "synthesize", "compare", "run", "demo")
ARGUMENTS = "ganaug.arguments"

Command = Callable[..., Any]
PATH = click.Path(path_type=Path)


class Ganaug(click.Group):
    """Shows its commands in the order of use, suggests what a mistyped one may be, and turns every expected error into one clear
    message."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        in_order = [name for names in SECTIONS.values() for name in names]
        return sorted(self.commands, key=lambda name: in_order.index(name) if name in in_order else len(in_order))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.commands))
        for title, names in SECTIONS.items():
            with formatter.section(title):
                lines = [(f"{name:{width}}", self.commands[name].get_short_help_str(limit=100)) for name in names]
                formatter.write_dl(lines)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not (ctx.resilient_parsing or name.startswith("-")):
            raise click.UsageError(f"no command {name!r}: {suggest(name, self.list_commands(ctx))}", ctx=ctx)
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        code = BAD_INPUT
        try:
            with signals_raise():
                return super().invoke(ctx)
        except GanaugError as error:
            click.echo(printable(f"error: {error}", keep="\n"), err=True)
        except Stopped as error:
            click.echo(printable(f"{error}.{going_on(ctx, error)}", keep="\n"), err=True)
            code = 128 + error.number  # as shells say it
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            reason = f"{error.strerror}{where}" if error.strerror else str(error)
            reason = f"the disk is full{where} cannot be written" if is_full(error) else reason
            click.echo(printable(f"error: {reason}.{going_on(ctx, error)}", keep="\n"), err=True)
        except (MemoryError, RuntimeError) as error:  # torch has a name of its own for it on a GPU alone
            if not isinstance(error, MemoryError) and not re.search("out of memory|allocate memory", str(error)):
                raise
            lower = "Lower fit.batch_size, fit.width or data.image_size."
            click.echo(f"error: out of memory. {lower}{going_on(ctx, error)}", err=True)
        sys.exit(code)


def going_on(ctx: click.Context, error: BaseException) -> str:
    """The end of a message: how to go on with a command that was ended by no fault of its own."""
    arguments: list[str] = ctx.meta[ARGUMENTS]
    name = next((each for each in arguments if not each.startswith("-")), "")
    if name not in RESUMABLE:
        return ""
    begun = BEGUN in getattr(error, "__notes__", ())
    again = ["--resume"] if name == "fit" and "--resume" not in arguments and holds_run(arguments) else []
    kept = "What was finished is kept; go on" if begun else "Begin again"
    return f" {kept} with: {command_again([*arguments, *again])}"


def holds_run(arguments: list[str]) -> bool:
    """Whether the folder after --out holds a run that may be gone on with; before that, it begins anew."""
    found = [after for each, after in pairwise(arguments) if each == "--out"]
    found += [each.removeprefix("--out=") for each in arguments if each.startswith("--out=")]
    return any(RunFolder(Path(out)).info.is_file() for out in found)


def setting(key: str, *names: str, default: Any = None) -> Callable[[Command], Command]:
    """A click option for the recipe's `stage.key`: its choices, help and default are read from the settings, unless the command has
    another `default`."""
    stage, name = key.split(".")
    field = Recipe.model_fields[stage].annotation.model_fields[name]  # type: ignore[union-attr]
    choices = [str(choice) for part in (field.annotation, *get_args(field.annotation)) for choice in _literals(part)]
    in_seconds = takes_duration(field)
    default = field.default if default is None else default
    shown = format_duration(default) if in_seconds and default else default
    told = "" if default in (None, ()) else f"  [default: {shown}]"
    if field.annotation is bool:
        flag = names or (f"--{name.replace('_', '-')}",)
        return click.option(*flag, f"{stage}__{name}", is_flag=True, default=None, help=field.description)
    return click.option(
        *(names or (f"--{name.replace('_', '-')}",)),
        f"{stage}__{name}",
        type=click.Choice(choices) if choices else str,
        multiple=get_origin(field.annotation) is tuple,
        shell_complete=complete_arms if key == "compare.arms" else None,
        metavar=None if choices else "TIME" if in_seconds else _metavar(name, field.annotation),
        help=f"{field.description}{told}",
    )


def complete_arms(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Arms that the last of several, separated by commas, may become."""
    before, comma, last = incomplete.rpartition(",")
    named = before.split(",")
    return [
        CompletionItem(f"{before}{comma}{name}") for name in ARM_NAMES if name.startswith(last) and name not in named
    ]


def _metavar(name: str, annotation: Any) -> str:
    """What an option takes, in a word: a setting's own name unless it is a number or a path."""
    kinds = {
        annotation,
        *(get_args(part)[0] if hasattr(part, "__metadata__") else part for part in get_args(annotation)),
    }
    return "N" if int in kinds else "X" if float in kinds else "PATH" if Path in kinds else name.upper()


def _literals(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def settings(*keys: str | tuple[str, ...], **defaults: Any) -> Callable[[Command], Command]:
    """Options for several settings, and --recipe and --set for all others. `defaults`: those that the command has otherwise than the
    settings, as `stage__key`."""

    def decorate(command: Command) -> Command:
        command = click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="STAGE.KEY=VALUE",
            help="Override any setting; may be repeated.",
        )(command)
        command = click.option("--recipe", type=PATH, help="A YAML or TOML file with settings of the stages.")(command)
        for key in reversed(keys):
            name, *flags = (key,) if isinstance(key, str) else key
            command = setting(name, *flags, default=defaults.get(name.replace(".", "__")))(command)
        return command

    return decorate


def gather(recipe: Path | None, overrides: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
    """The recipe file, then --set, then the options of the command, as one nested mapping of what was given."""
    given: dict[str, Any] = {}
    for name, value in options.items():
        if value not in (None, ()):
            stage, key = name.split("__")
            given.setdefault(stage, {})[key] = value
    return load_recipe_mapping(recipe, overrides, given)
