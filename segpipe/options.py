"""What the commands share: their options, the configuration that these give, errors in one line."""

import errno
import json
import logging
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from segpipe.core.errors import Exit, SegpipeError

INTERRUPTED = 130
Settings = Annotated[list[str] | None, typer.Argument(help="Settings laid over the config: train.fit.steps=500 …")]
ConfigName = Annotated[str, typer.Argument(help="A YAML file, or the name of a config that ships.")]
Data = Annotated[Path | None, typer.Option("--data", help="Folder of the data set; short for ingest.source.root=…")]
Out = Annotated[Path | None, typer.Option("-o", "--out", help="Folder of all results; short for run.store=…")]
Pipeline = Annotated[str, typer.Option("--pipeline", help="A YAML file, or the name of a pipeline that ships.")]


def fail(message: str, code: int) -> NoReturn:
    """Print one line to the error stream and leave."""
    typer.echo(f"segpipe: {message}", err=True)
    raise typer.Exit(code)


def explained(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn errors that a user can mend into one line and an exit code; anything else is a bug and shows itself."""

    @wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        logging.basicConfig(level=logging.WARNING, format="segpipe: %(message)s")
        try:
            return command(*arguments, **options)
        except SegpipeError as error:
            fail(str(error), error.code)
        except KeyboardInterrupt:
            fail("stopped. Run the same command again to go on from here.", INTERRUPTED)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS):
                fail(
                    f"{error.filename or 'the disk'}: {error.strerror}. What was finished is kept.",
                    Exit.ENVIRONMENT,
                )
            raise

    return wrapped


def read_config(
    config: str,
    settings: list[str] | None,
    data: Path | None,
    out: Path | None,
    extra: list[str] | None = None,
) -> tuple[str, Any]:
    """Return the name of a run and its configuration, the short options laid over it."""
    from segpipe.config import load_config  # noqa: PLC0415
    from segpipe.shipped import shipped  # noqa: PLC0415

    overrides = places(data, out)
    path = Path(config)
    if path.suffix not in (".yaml", ".yml"):
        if "=" in config:  # the config was left out, and a setting stands in its place
            overrides, path = [*overrides, config], shipped("configs", "default")
        else:
            path = shipped("configs", config)
    return path.stem, load_config(path, [*overrides, *(settings or []), *(extra or [])])


def places(data: Path | None, out: Path | None) -> list[str]:
    """Return the short options as settings."""
    # quoted: YAML would take a folder named 2026-03-01 for a date
    overrides = [f"ingest.source.root={json.dumps(str(data), ensure_ascii=False)}"] if data else []
    return overrides + ([f"run.store={json.dumps(str(out), ensure_ascii=False)}"] if out else [])
