"""`basic-run verify`."""

from __future__ import annotations

import json

import click


@click.command(short_help="Check that this machine's engines decode bit by bit.")
@click.option("--bundle", metavar="DIR", help="Model bundle, or the name of an installed one (default: lite-8).")
@click.option(
    "--engine", "engines", multiple=True, metavar="NAME", help="May be repeated (default: all available)."
)
@click.option(
    "--threads", type=click.IntRange(1, 1024), help="Threads of the engine (default: its own choice)."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(bundle: str | None, engines: tuple[str, ...], threads: int | None, as_json: bool) -> None:
    """Run the bundle's golden vectors on engines of this machine.

    Exits with status 1 unless every engine reproduces every one of them.
    """
    from basic_runtime.bundle import Bundle
    from basic_runtime.codec import Codec
    from basic_runtime.engines import available_backends
    from basic_runtime.engines.native import native_version
    from basic_runtime.errors import EngineMismatchError

    opened = Bundle(bundle)
    results = []
    for name in engines or available_backends():
        try:
            codec = Codec(opened, name, threads)
        except EngineMismatchError as error:
            if engines:
                raise
            click.echo(f"basic-run: note: engine {name} is left out: {error}", err=True)
            continue
        for check in codec.verify():
            results.append(
                {
                    "engine": name,
                    "version": codec.backend.version,
                    "native": native_version() if check.native else None,
                    "variant": check.variant,
                    "exact": check.error is None,
                    "error": None if check.error is None else str(check.error),
                }
            )
    if as_json:
        model = {"name": opened.name, "id": opened.model_id}
        click.echo(json.dumps({"model": model, "checks": results}, indent=2))
    for result in results:
        if result["error"]:
            click.echo(f"basic-run: error: {result['error']}", err=True)
        elif not as_json:
            computed = f", computed by {result['native']}" if result["native"] else ""
            click.echo(
                f"{result['engine']} {result['version']}: entropy variant {result['variant']} is exact{computed}"
            )
    if any(result["error"] for result in results):
        click.get_current_context().exit(1)
