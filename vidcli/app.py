"""The Typer tree, one line per command, and the place where errors become exit codes."""

import os
import signal
import sys
from typing import Annotated

import typer
from typer.main import get_command

from tasks.core.errors import UsageError, VidError
from tasks.core.files import cannot_write
from tasks.core.signals import HANDLED, cause, stopping
from vidcli import __version__, launch, options
from vidcli.commands import (
    align,
    config_show,
    convert,
    data_check,
    data_flow,
    data_import,
    data_index,
    demo,
    detect_anomalies,
    detect_boundaries,
    detect_events,
    doctor,
    eval_alignment,
    eval_anomalies,
    eval_boundaries,
    eval_classify,
    eval_events,
    extract_features,
    finetune,
    gen_pseudo,
    motion_boxes,
    presets_cp,
    presets_list,
    presets_pull,
    presets_push,
    presets_show,
    pretrain,
    publish,
    runs_list,
    runs_show,
    slurm,
)
from vidcli.console import Console, hush_stdout, reset

STYLE = {"rich_markup_mode": None, "no_args_is_help": True}
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

AGREED = (2, 75, 130)
"""Exit codes that every process of a run comes to for the same reason: the first one speaks for all."""

app = typer.Typer(**STYLE, context_settings=SETTINGS, pretty_exceptions_enable=False)
evaluate = typer.Typer(**STYLE, help="Measure a model on labelled videos.")
presets = typer.Typer(**STYLE, help="List, show, copy, fetch and share presets.")
runs = typer.Typer(**STYLE, help="List and show run folders.")
config = typer.Typer(**STYLE, help="See what a configuration resolves to.")
data = typer.Typer(**STYLE, help="Write and check manifests of videos, and their optical flow.")


def _version(value: bool) -> None:
    if value:
        sys.stdout.write(f"vid {__version__}\n")
        raise typer.Exit


@app.callback()
def vid(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")] = False,
    debug: options.Debug = False,
) -> None:
    """Learn from video with little or no annotation, and use what was learned."""


app.command("pretrain", help=pretrain.HELP, epilog=pretrain.EXAMPLES)(pretrain.command)
app.command("finetune", help=finetune.HELP, epilog=finetune.EXAMPLES)(finetune.command)
app.command("detect-boundaries", epilog=detect_boundaries.EXAMPLES)(detect_boundaries.command)
app.command("gen-pseudo", epilog=gen_pseudo.EXAMPLES)(gen_pseudo.command)
app.command("detect-anomalies", epilog=detect_anomalies.EXAMPLES)(detect_anomalies.command)
app.command("detect-events", epilog=detect_events.EXAMPLES)(detect_events.command)
app.command("align", epilog=align.EXAMPLES)(align.command)
app.command("motion-boxes", epilog=motion_boxes.EXAMPLES)(motion_boxes.command)
app.command("extract-features", epilog=extract_features.EXAMPLES)(extract_features.command)
app.add_typer(evaluate, name="eval")
evaluate.command("alignment", epilog=eval_alignment.EXAMPLES)(eval_alignment.command)
evaluate.command("anomalies", epilog=eval_anomalies.EXAMPLES)(eval_anomalies.command)
evaluate.command("boundaries", epilog=eval_boundaries.EXAMPLES)(eval_boundaries.command)
evaluate.command("classify", epilog=eval_classify.EXAMPLES)(eval_classify.command)
evaluate.command("events", epilog=eval_events.EXAMPLES)(eval_events.command)
app.add_typer(presets, name="presets")
presets.command("list", epilog=presets_list.EXAMPLES)(presets_list.command)
presets.command("show", epilog=presets_show.EXAMPLES)(presets_show.command)
presets.command("cp", epilog=presets_cp.EXAMPLES)(presets_cp.command)
presets.command("pull", help=presets_pull.HELP, epilog=presets_pull.EXAMPLES)(presets_pull.command)
presets.command("push", help=presets_push.HELP, epilog=presets_push.EXAMPLES)(presets_push.command)
app.add_typer(runs, name="runs")
runs.command("list", epilog=runs_list.EXAMPLES)(runs_list.command)
runs.command("show", epilog=runs_show.EXAMPLES)(runs_show.command)
app.command("slurm", epilog=slurm.EXAMPLES, context_settings=slurm.CONTEXT)(slurm.command)
app.add_typer(config, name="config")
config.command("show", epilog=config_show.EXAMPLES)(config_show.command)
app.add_typer(data, name="data")
data.command("index", epilog=data_index.EXAMPLES)(data_index.command)
data.command("import", epilog=data_import.EXAMPLES)(data_import.command)
data.command("check", epilog=data_check.EXAMPLES)(data_check.command)
data.command("flow", epilog=data_flow.EXAMPLES)(data_flow.command)
app.command("convert", help=convert.HELP, epilog=convert.EXAMPLES)(convert.command)
app.command("publish", help=publish.HELP, epilog=publish.EXAMPLES)(publish.command)
app.command("doctor", epilog=doctor.EXAMPLES)(doctor.command)
app.command("demo", epilog=demo.EXAMPLES)(demo.command)


def main(arguments: list[str] | None = None) -> int:
    """Runs `vid` and returns its exit code; `arguments` default to those of the process."""
    if arguments is not None:
        sys.argv = ["vid", *arguments]
    if (cache := os.environ.get("VID_CACHE")) and "HF_HOME" not in os.environ:
        os.environ["HF_HOME"] = os.path.join(cache, "huggingface")  # read when huggingface_hub is imported
    reporter = reset()
    with stopping("stopped by a signal; what is finished is written", "run the same command again to continue") as disarm:
        try:
            _join(sys.argv[1:])
            reporter = reset()  # now it knows its rank
            code = get_command(app).main(sys.argv[1:], prog_name="vid", standalone_mode=False) or 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        except (Exception, KeyboardInterrupt) as error:
            disarm()
            if not isinstance(error, VidError) and not cannot_write(error):
                error = cause(error)
            code = 130 if isinstance(error, KeyboardInterrupt) else explain(error, reporter)
        finally:
            disarm()
            reporter.detach_log()
        code = launch.leave(code)
    if arguments is None:  # the process ends here; the same signal may come again while it does
        for number in HANDLED:
            signal.signal(number, signal.SIG_IGN)
    return code


def _join(arguments: list[str]) -> None:
    """Joins the world this process was started in; `vid doctor` goes on alone where the others cannot be found, and says so."""
    try:
        launch.join()
    except UsageError:
        verb = next((word for word in arguments if not word.startswith("-")), None)
        if verb != "doctor" or not launch.in_world():
            raise


def explain(error: Exception, reporter: Console) -> int:
    """Says what went wrong in one or two lines (with --debug: the traceback first) and returns the exit code."""
    if isinstance(error, BrokenPipeError):
        hush_stdout()
        return 141
    if reporter.debug and not hasattr(error, "format_message"):
        import traceback

        reporter.warn(traceback.format_exc().rstrip())
    if isinstance(error, VidError):
        if reporter.muted and error.exit_code in AGREED:
            return error.exit_code
        if error.exit_code in (75, 130):
            reporter.warn(error.message)
            if error.hint:
                reporter.info(f"hint: {error.hint}")
        else:
            reporter.error(error.message, error.hint)
        return error.exit_code
    if hasattr(error, "format_message"):  # of the command line: unknown options, missing arguments
        return _usage(error, reporter)
    if reason := cannot_write(error):
        reporter.error(
            f"{reason}: {getattr(error, 'filename', None) or 'while writing'}", "make room or choose another folder, then repeat it"
        )
        return 1
    if type(error).__name__ == "ValidationError":  # of settings that no person typed: those stored in a model folder
        first = error.errors(include_url=False)[0]
        place = ascii(".".join(str(part) for part in first["loc"]))[1:-1]
        reporter.error(
            f"a model's config.json does not fit: {error.title}.{place}: {first['msg']}", "it was edited, or made by another version"
        )
        return 2
    if type(error).__name__ == "OutOfMemoryError":
        reporter.error("out of GPU memory", "a smaller --batch-size (with --set train.accumulate=N the effective batch stays)")
        return 1
    if _lost_peer(error):
        reporter.error("another process of this run has ended", "it has said why, or was killed; run the same command again to continue")
        return 1
    reporter.error(f"bug: {type(error).__name__}: {error}", None if reporter.debug else "see the traceback: repeat it with --debug")
    return 1


def _lost_peer(error: Exception) -> bool:
    """Whether a process waited for others of its world of which one is gone: not its own fault, nor for it to explain."""
    told = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Read timeout", "remote process exited")
    torch_says = type(error).__name__ in ("DistBackendError", "DistNetworkError", "DistStoreError", "RuntimeError")
    return os.environ.get("WORLD_SIZE", "1") != "1" and torch_says and any(text in str(error) for text in told)


def _usage(error: Exception, reporter: Console) -> int:
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
    else:
        message = " ".join(error.format_message().split())
        if near := getattr(error, "possibilities", None):
            message = f"no such option: {error.option_name}; did you mean {' or '.join(sorted(near))}?"
        reporter.error(message, f"{context.command_path if context else 'vid'} --help")
    return getattr(error, "exit_code", 2)
