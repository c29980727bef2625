"""`vid`: from arguments to a command, and the place where errors become exit codes."""

import os
import signal
import sys

from typer.main import get_command

from tasks.core.errors import UsageError, VidError
from tasks.core.files import cannot_write
from tasks.core.signals import HANDLED, cause, stopping
from vidcli import launch
from vidcli.console import Console, hush_stdout, reset
from vidcli.tree import tree

AGREED = (2, 75, 130)
"""Exit codes that every process of a run comes to for the same reason: the first one speaks for all."""


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
            code = get_command(tree(sys.argv[1:])).main(sys.argv[1:], prog_name="vid", standalone_mode=False) or 0
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
        message = _bad_value(error) or " ".join(error.format_message().split())
        if near := getattr(error, "possibilities", None):
            message = f"no such option: {error.option_name}; did you mean {' or '.join(sorted(near))}?"
        reporter.error(message, f"{context.command_path if context else 'vid'} --help")
    return getattr(error, "exit_code", 2)


def _bad_value(error: Exception) -> str | None:
    """What an option was given and what it takes; None where an error is about something else."""
    cause = error.__cause__
    if type(cause).__name__ != "ValidationError" or getattr(error, "param", None) is None:
        return None
    from tasks.core.config import expectation

    first = cause.errors(include_url=False)[0]
    return f"{error.param.opts[0]}: got {first['input']!r}, expected {expectation(first['msg'])}"
