"""`replcache verify`: the sub-application that the command line mounts.

Exit codes: 0 linearizable, 1 violation, 2 no verdict (out of time, or the run proves nothing).
"""

import asyncio
import json
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from replcache.errors import ReplcacheError
from replcache.verify.checker import TIME_BUDGET_S, Verdict
from replcache.verify.external import FORMATS, MODEL_NAMES, judge
from replcache.verify.picture import write_picture
from replcache.verify.port import READ_LEVELS
from replcache.verify.run import RECOVERY_S, Report, replay, verify
from replcache.verify.workloads import WORKLOADS

ALL = "all"
_NO_VERDICT = 2
# What a file, a full disk or a cluster can bring about; a traceback would say no more than the message.
_EXPECTED = (ReplcacheError, OSError, ValueError, TypeError, LookupError, ArithmeticError, RecursionError)

app = typer.Typer(
    name="verify",
    help="""Check a cluster, or a recorded history, for linearizability.

Exit codes: 0 linearizable, 1 violation, 2 no verdict.""",
    rich_markup_mode="markdown",
    no_args_is_help=False,
)

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line instead of text.")]
PictureOption = Annotated[
    Path | None, typer.Option(help="Where to draw a violation (HTML). Default: beside the history.")
]
BudgetOption = Annotated[float, typer.Option(help="Seconds for checking.", min=0.1)]


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    url: Annotated[
        str | None, typer.Option(help="The cluster, as for the client.", envvar="REPLCACHE_URL")
    ] = None,
    workload: Annotated[str, typer.Option(help=f"One of: {', '.join(WORKLOADS)}, {ALL}.")] = ALL,
    seconds: Annotated[float, typer.Option(help="Length of each workload.", min=0.1)] = 10.0,
    processes: Annotated[int, typer.Option(help="Clients at a time.", min=1)] = 10,
    seed: Annotated[int | None, typer.Option(help="Of all choices; default: drawn, and printed.")] = None,
    rate: Annotated[float, typer.Option(help="Calls a second of all together; 0: no limit.", min=0)] = 0.0,
    read: Annotated[
        str, typer.Option(help="Level of the register's reads: linearizable, session or one.")
    ] = "linearizable",
    strict: Annotated[
        bool, typer.Option("--strict", help="Judge weak reads as linearizable: shows what they give up.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds for each call.", min=0.1)] = 5.0,
    recovery: Annotated[
        float, typer.Option(help="Seconds for the cluster to answer again at the end.", min=0.1)
    ] = RECOVERY_S,
    history: Annotated[
        Path, typer.Option(help="Directory for histories (JSON lines) and pictures.", file_okay=False)
    ] = Path("verify-histories"),
    budget: BudgetOption = TIME_BUDGET_S,
    as_json: JsonOption = False,
) -> None:
    """Use a running cluster for a while, record what it answers, and judge it.

    Keys start with verify/ and are removed afterwards. Break the cluster meanwhile as you like.
    """
    if context.invoked_subcommand is not None:
        return
    names = list(WORKLOADS) if workload == ALL else [workload]
    if any(name not in WORKLOADS for name in names):
        raise typer.BadParameter(
            f"{workload!r}: one of {', '.join(WORKLOADS)}, {ALL}", param_hint="--workload"
        )
    if read not in READ_LEVELS:
        raise typer.BadParameter(f"{read!r}: one of {', '.join(READ_LEVELS)}", param_hint="--read")
    worst = 0
    for name in names:
        path = history / f"{name}.jsonl"
        with _no_verdict(name):
            history.mkdir(parents=True, exist_ok=True)
            report = asyncio.run(
                verify(
                    url,
                    name,
                    seconds,
                    processes,
                    seed,
                    read if read in WORKLOADS[name].read_levels else "linearizable",
                    None,
                    path,
                    rate=rate,
                    timeout_s=timeout,
                    time_budget_s=budget,
                    recovery_s=recovery,
                    strict=strict,
                )
            )
        _show(report, as_json, path.with_suffix(".html"))
        worst = _worse(worst, report.exit_code)
    raise typer.Exit(worst)


@app.command("replay")
def replay_command(
    path: Annotated[Path, typer.Argument(help="A history that `replcache verify` wrote.")],
    picture: PictureOption = None,
    budget: BudgetOption = TIME_BUDGET_S,
    as_json: JsonOption = False,
) -> None:
    """Judge a recorded history again."""
    with _no_verdict(str(path)):
        report = replay(path, time_budget_s=budget)
    _show(report, as_json, picture or path.with_suffix(".html"))
    raise typer.Exit(report.exit_code)


@app.command("judge")
def judge_command(
    path: Annotated[Path, typer.Argument(help="A history of another tool.")],
    format_name: Annotated[str, typer.Option("--format", help=f"One of: {', '.join(FORMATS)}.")],
    model: Annotated[str, typer.Option(help=f"One of: {', '.join(MODEL_NAMES)}.")],
    options: Annotated[str, typer.Option(help='Of the model, as JSON: {"initial": 0}.')] = "{}",
    budget: BudgetOption = TIME_BUDGET_S,
) -> None:
    """Judge a history of Jepsen, Knossos, Elle or Porcupine."""
    with _no_verdict(str(path)):
        judgement = judge(path, format_name, model, options=json.loads(options), time_budget_s=budget)
    typer.echo(f"{path}: {judgement.verdict.value}")
    for problem in judgement.problems:
        typer.echo(f"  {problem}")
    raise typer.Exit(judgement.verdict.exit_code)


@contextmanager
def _no_verdict(what: str) -> Iterator[None]:
    """Ends with 2 whatever goes wrong: an error that nobody caught would end with 1, a violation's code."""
    try:
        yield
    except Exception as err:
        cause: Exception = err
        while isinstance(cause, ExceptionGroup):  # of the tasks of a run
            cause = cause.exceptions[0]
        if not isinstance(cause, _EXPECTED):
            traceback.print_exception(err)
        text = str(cause)
        typer.echo(text if text.startswith(what) else f"{what}: {text}", err=True)
        raise typer.Exit(_NO_VERDICT) from err


def _worse(first: int, second: int) -> int:
    """A violation is worse than no verdict, which is worse than none at all."""
    return max(first, second, key=lambda code: {0: 0, 2: 1, 1: 2}[code])


def _show(report: Report, as_json: bool, picture: Path) -> None:
    drawn = None
    if report.explanation is not None:
        write_picture(report.explanation, picture)
        drawn = str(picture)
    if as_json:
        typer.echo(json.dumps(_as_json(report, drawn), ensure_ascii=False))
        return
    typer.echo(report.text())
    typer.echo(f"  seed: {report.history.meta.get('seed')}")
    if drawn is not None:
        typer.echo(f"  picture: {drawn}")
    if report.verdict is Verdict.UNDECIDED:
        typer.echo("  out of time: this is no pass; try again with a larger --budget or fewer processes")


def _as_json(report: Report, picture: str | None) -> dict[str, Any]:
    return {
        "workload": report.workload,
        "verdict": report.verdict.value,
        "calls": len(report.history),
        "outcomes": report.history.counts(),
        "errors": dict(report.errors),
        "problems": list(report.problems),
        "faults": list(report.faults),
        "seed": report.history.meta.get("seed"),
        "check_seconds": None if report.result is None else round(report.result.seconds, 3),
        "history": None if report.path is None else str(report.path),
        "picture": picture,
        "explanation": None if report.explanation is None else report.explanation.text(),
    }
