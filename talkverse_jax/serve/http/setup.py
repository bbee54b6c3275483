"""What the HTTP side is made of: given by whoever starts the server, and made from that once."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from talkverse_jax.pipeline import registry
from talkverse_jax.serve.http.access import Access, read_keys
from talkverse_jax.serve.http.checker import Checker
from talkverse_jax.serve.http.fetch import Fetcher
from talkverse_jax.serve.http.fields import Fields
from talkverse_jax.serve.http.forms import Bodies
from talkverse_jax.serve.http.origin import Origins
from talkverse_jax.serve.http.references import References
from talkverse_jax.serve.options import ServeOptions

if TYPE_CHECKING:
    from talkverse_jax.helpers.prompt.enhancer import Enhancer
    from talkverse_jax.helpers.speech.engine import Engine
    from talkverse_jax.pipeline.machine import Machine, Weights
    from talkverse_jax.serve.jobs.jobs import Jobs


@dataclass(frozen=True)
class Setup:
    """A server's models, jobs and helpers.

    Attributes:
      family: of the models.
      defaults: of requests, by the options of the family's `Settings`; those left out have their own.
      enhancer, engine: improve prompts and speak texts; None where that is off.
      connections: how many are open.
      modules: that the processes import which look at files, of families that are no part of the package.
      environ: with further keys.
    """

    options: ServeOptions
    jobs: "Jobs"
    family: str
    weights: "Weights"
    machine: "Machine"
    defaults: Mapping[str, Any]
    enhancer: "Enhancer | None" = None
    engine: "Engine | None" = None
    connections: Callable[[], int] = lambda: 0
    modules: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @cached_property
    def access(self) -> Access:
        """Raises:
        UserError: keys cannot be read, or are needed and missing.
        """
        return Access(read_keys(self.options, self.environ))

    @cached_property
    def origins(self) -> Origins:
        return Origins(self.options)

    @cached_property
    def bodies(self) -> Bodies:
        return Bodies(self.options)

    @cached_property
    def references(self) -> References:
        return References(Fetcher(self.options), self.bodies)

    @cached_property
    def checker(self) -> Checker:
        return Checker(self.family, self.modules)

    @cached_property
    def fields(self) -> Fields:
        speaks, extends = self.engine is not None, self.enhancer is not None
        table, folder = registry.settings_of(self.family).REQUEST, self.weights.weights
        can = dict(speaks=speaks, extends=extends, dubs=table.takes_video(folder))
        speakers = self.defaults.get(table.most_people or "") or table.people(folder)
        return Fields(self.family, self.defaults, self.options, speakers=speakers, **can)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the model; the first is shown."""
        return self.options.names(self.family)
