"""A command whose options are given once: of two values, click would keep the last in silence."""

from __future__ import annotations

import click

from m2a.errors import UsageError

__all__ = ["SingleValues"]


class SingleValues(click.Command):
    """Refuses an option with a value that is given again, unless it is meant to be.

    So is noticed what a pattern of the shell brings along: of a file `-otters.jpg` the parser makes
    `-o tters.jpg`.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses the words once to count the values, and then as click does.

        Raises:
            UsageError: an option is given more than once.
        """
        if not ctx.resilient_parsing:
            self._refuse_repetition(ctx, args)
        return super().parse_args(ctx, args)

    def _refuse_repetition(self, ctx: click.Context, args: list[str]) -> None:
        parser = self.make_parser(ctx)
        options = [option for option in self.params if isinstance(option, click.Option)]
        single = [option for option in options if _takes_one_value(option)]
        for option in single:
            # In the place of the option of that name, which would store the last value only.
            parser.add_option(obj=option, opts=option.opts, dest=option.name, action="append")
        found, _, _ = parser.parse_args(args=list(args))
        for option in single:
            values = found.get(option.name or "") or []
            if len(values) > 1:
                raise UsageError(_repeated(option, values, args))


def _takes_one_value(option: click.Option) -> bool:
    return not (option.is_flag or option.multiple or option.count)


def _repeated(option: click.Parameter, values: list[object], args: list[str]) -> str:
    name = option.opts[0]
    times = "twice" if len(values) == 2 else f"{len(values)} times"
    shown = ", ".join(value for value in values if isinstance(value, str))
    # What follows the letter without a space may be the rest of a file's name.
    joined = [word for word in args if word in {f"{name}{value}" for value in values}]
    advice = ""
    if joined and not name.startswith("--"):
        advice = f"; a file whose name begins with - is given as ./{joined[0]} or after --"
    return f"{name}: found {times} ({shown}), expected once{advice}"
