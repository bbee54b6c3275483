"""What the conversion's command does: fetch, convert, export."""

import dataclasses
from typing import Any

from talkverse_jax.convert import hub
from talkverse_jax.convert.convert import convert
from talkverse_jax.convert.export import export
from talkverse_jax.convert.options import ConvertOptions
from talkverse_jax.core import presets
from talkverse_jax.core.reporting import SILENT, Reporter
from talkverse_jax.pipeline import weights_settings
from talkverse_jax.pipeline.family import Family
from talkverse_jax.weights import manifest


def run(family: Family, options: ConvertOptions, sources: Any, reporter: Reporter = SILENT) -> None:
    """Do what the options ask for.

    Args:
      sources: the flags that name the published files, the family's own `Sources`; of those that are not given,
        downloaded files take the place.

    Raises:
      UserError: see `hub.download`, `convert` and `export`.
      OSError: a file cannot be written.
    """
    if options.download:
        fetched = hub.download(
            family, options.download, options.chosen(family.components, family.given(sources)), reporter
        )
        missing = {flag: path for flag, path in fetched.items() if not getattr(sources, flag)}
        sources = dataclasses.replace(sources, **missing)
    given = any(getattr(sources, field.name) for field in dataclasses.fields(sources))
    if options.output and (given or not options.export):
        configs = family.configs_from_toml(presets.find(options.config)) if options.config else family.real_size()
        settings = weights_settings.of_toml(presets.find(options.config), family.name) if options.config else None
        convert(family, options, sources, configs, reporter)
        if settings is not None:
            manifest.note_settings(options.output, settings)
    if options.export:
        export(family, options, reporter)
