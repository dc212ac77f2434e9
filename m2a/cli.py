"""The command line: parse → configuration → library call → exit code.

One file per command in `m2a.commands`; a command's module is imported when it is used, so that
`m2a --help` answers at once.
"""

from __future__ import annotations

import importlib

import click

from m2a._version import __version__
from m2a.commands.corrections import OPTIONS, correction_of, example_of
from m2a.errors import M2AError, on_one_line

_COMMANDS = {
    "run": "Deblur photos.",
    "report": "Write a page that shows before and after, mask and motion of photos.",
    "serve": "Deblur photos over HTTP, with a page to drop them on.",
    "export": "Turn a checkpoint into a bundle of ONNX graphs.",
    "calibrate": "Add an INT8 variant to a bundle, calibrated and judged on photos.",
    "build-engine": "Build TensorRT engines from a bundle.",
    "triton": "Write a model repository for NVIDIA's Triton server.",
    "verify": "Prove that a bundle still computes what the trained network did.",
    "inspect": "Tell what is in a bundle.",
    "doctor": "Tell what of this machine m2a can use, and how to mend the rest.",
    "bench": "Time every stage on this machine, against dense and against the limit.",
    "eval": "Measure a bundle or a checkpoint on pictures whose sharp truth is known.",
    "synth": "Render photos with synthetic local motion blur, with truth and mask.",
    "train": "Train M2AENet from a folder of sharp photographs.",
}
"""Command → its line in the help. The module is `m2a.commands.NAME_command`."""

_WORDS = f"{__name__}.words"
"""Where the context keeps what followed `m2a`."""


class LazyCommands(click.Group):
    """Imports a command when it is called, not to list it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names in the order of the table."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Returns a command, or None where there is none of that name."""
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"m2a.commands.{cmd_name.replace('-', '_')}_command")
        command: click.Command = module.command
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses what stands before the command; an option of a command there is told its place."""
        words = list(args)
        ctx.meta[_WORDS] = words
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            meant = correction_of(words, _COMMANDS)
            if meant is None:
                raise
            raise click.UsageError(
                f"Found {error.option_name} before the command, expected it behind; did you mean "
                f"`{meant}`?",
                ctx,
            ) from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command; what is none is told with what may have been meant."""
        if args[0] not in _COMMANDS and not ctx.resilient_parsing:
            meant = correction_of(args, _COMMANDS)
            hint = f"did you mean `{meant}`?" if meant else "`m2a --help` lists the commands."
            raise click.UsageError(f"Found {args[0]!r}, expected a command; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands from the table, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> object:
        """Runs the command; an error that m2a raised on purpose becomes one line."""
        try:
            return super().invoke(ctx)
        except click.NoSuchOption as error:
            meant = OPTIONS.get(error.option_name)
            if meant is None or error.ctx is None or meant not in _options_of(error.ctx.command):
                raise
            raise click.UsageError(
                f"No such option {error.option_name!r}. Did you mean {meant!r}?", error.ctx
            ) from error
        except click.MissingParameter as error:
            message = error.format_message()
            if error.ctx is None or "`m2a " in message:  # the parameter has an example of its own
                raise
            example = example_of(ctx.meta[_WORDS], error.ctx.command.help or "")
            if example is None:
                raise
            raise click.UsageError(f"{message} {example}", error.ctx) from error
        except M2AError as error:
            click.echo(f"m2a: {on_one_line(error)}", err=True)
            ctx.exit(error.exit_code)
        except BrokenPipeError:
            raise  # click ends quietly
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            click.echo(on_one_line(f"m2a: {place}{error.strerror or error}"), err=True)
            ctx.exit(1)
        except MemoryError:
            click.echo("m2a: out of memory; take a smaller picture or a smaller mask", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("m2a: interrupted", err=True)
            ctx.exit(130)


def _options_of(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}


def _print_versions(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if not asked or ctx.resilient_parsing:
        return
    from m2a.diagnosis.versions import installed_versions

    click.echo(f"m2a, version {__version__}")
    for name, version in installed_versions().items():
        click.echo(f"  {name:16} {version}")
    ctx.exit()


@click.command(
    cls=LazyCommands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_versions,
    help="Show the versions that a bug report needs and exit.",
)
def main() -> None:
    """Local motion deblurring with M2AENet: only the blurred pixels are restored.

    \b
      m2a run input.jpg -o out.jpg          deblur a photo with the packaged model
      m2a export --ckpt model.pth           checkpoint → ./m2a-bundle
      m2a verify                            the proof that it still gives the same picture
    """
