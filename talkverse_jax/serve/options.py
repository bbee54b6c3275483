"""What a server can be told, besides the models and the defaults of requests. Imports no JAX."""

import dataclasses
import re

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.files import is_remote
from talkverse_jax.core.options import check_bounds, option
from talkverse_jax.media import buckets
from talkverse_jax.media.walls import MOST_PIXELS

_HOST = re.compile(r"[^\s/@?#,]+")
_ORIGIN = re.compile(r"https?://[^\s/@?#,]+", re.IGNORECASE)
_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|::1", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class SharedOptions:
    """Where jobs lie, and how a worker goes about them: of a server that makes them itself, and of a worker alone."""

    data_dir: str = option(
        "folder of jobs, uploads and videos; one server a folder, or with --database a folder or an address "
        "(s3://, gs://) that all fronts and workers share",
        group="server",
        metavar="DIR",
        default="outputs/serve",
    )
    database: str | None = option(
        "postgresql://USER:PASSWORD@HOST/NAME, which fronts and workers (serve-worker) share; a password may stand in "
        "PGPASSWORD (default: files in --data_dir, and a worker of its own)",
        group="server",
        metavar="URL",
        default=None,
    )
    pack_size: int = option(
        "jobs of one shape (size, frames of a clip, steps, ...) that are made together, as by sample's --batch_size; "
        "places that no job takes stay empty, and cost as much",
        group="server",
        metavar="N",
        default=1,
        least=1,
        lowers_memory=(3, "1"),
    )
    drain_seconds: float = option(
        "on SIGTERM, seconds to finish the clip in work; otherwise it is made again after the next start",
        group="server",
        metavar="S",
        default=60,
        least=0,
    )
    min_free_bytes: int = option(
        "bytes that stay free on the disk of --data_dir, or of TMPDIR where that is shared",
        group="limits",
        metavar="N",
        default=1_073_741_824,
        least=0,
    )
    max_tries: int = option(
        "how often a job is begun again where the process died before a clip of it was finished",
        group="limits",
        metavar="N",
        default=3,
        least=1,
    )

    def __post_init__(self):
        check_bounds(self)
        if self.database is None and is_remote(self.data_dir):
            raise UserError(f"{self.data_dir}: is shared; give --database too, or a folder", field="data_dir")


@dataclasses.dataclass(frozen=True)
class ServeOptions(SharedOptions):
    """Where a server listens, what it lets in, and how much of it."""

    host: str = option("address to listen at", group="server", metavar="ADDRESS", default="127.0.0.1")
    port: int = option(
        "port to listen at; 0: any free one", group="server", metavar="N", default=8765, least=0, most=65535
    )
    served_model_name: str | None = option(
        "name of the model, and further ones that requests may use (default: the family of the weights)",
        group="server",
        metavar="NAME[,ALIAS,...]",
        default=None,
    )
    size_buckets: tuple[str, ...] = option(
        "tables of sizes that requests may use (default: that of --size_bucket)",
        group="server",
        metavar="NAME",
        default=(),
    )
    page: bool = option("serve the page at /", group="server", default=True)
    heartbeat_seconds: float = option(
        "seconds without an event after which a stream of events says that it lives",
        group="server",
        metavar="S",
        default=15,
        above=0,
    )
    api_key: tuple[str, ...] = option(
        "keys that requests need; also TALKVERSE_API_KEY (commas between), which other users of the machine do not see",
        group="access",
        metavar="KEY",
        default=(),
    )
    api_key_file: str | None = option(
        "file of further keys, one a line; a # begins a comment", group="access", metavar="FILE", default=None
    )
    allow_anonymous: bool = option("serve other machines without keys", group="access", default=False)
    allowed_hosts: tuple[str, ...] = option(
        "further names by which the server may be called (localhost, IP addresses and --host always)",
        group="access",
        metavar="NAME",
        default=(),
    )
    allowed_origins: tuple[str, ...] = option(
        "web pages of other servers that may call this one, such as https://example.org",
        group="access",
        metavar="ORIGIN",
        default=(),
    )
    allowed_url_hosts: tuple[str, ...] = option(
        "hosts from which files are fetched that requests name by URL (default: none)",
        group="access",
        metavar="HOST[:PORT]",
        default=(),
    )
    max_upload_bytes: int = option("most bytes of an upload", group="limits", metavar="N", default=209_715_200, least=1)
    max_json_bytes: int = option(
        "most bytes of a request in JSON, and of a text in an upload",
        group="limits",
        metavar="N",
        default=33_554_432,
        least=1,
    )
    max_sound_seconds: float = option(
        "most seconds of a sound, and of a video to dub", group="limits", metavar="S", default=600, above=0
    )
    max_image_pixels: int = option(
        "most pixels, width times height, of a picture or of a video's frame",
        group="limits",
        metavar="N",
        default=50_000_000,
        least=1,
        most=MOST_PIXELS,
    )
    max_queue: int = option("most jobs that wait", group="limits", metavar="N", default=100, least=0)
    max_queue_per_key: int = option("most jobs of one key that wait", group="limits", metavar="N", default=20, least=0)
    max_jobs: int = option(
        "most ended jobs that are kept for a key; older ones go", group="limits", metavar="N", default=1000, least=0
    )
    keep_hours: float = option("hours that ended jobs are kept", group="limits", metavar="H", default=168, least=0)
    max_disk_bytes: int = option(
        "most bytes of --data_dir", group="limits", metavar="N", default=21_474_836_480, least=1
    )
    max_connections: int = option("most connections at once", group="limits", metavar="N", default=256, least=1)
    upload_timeout: float = option(
        "seconds without a byte of an upload after which it is given up",
        group="limits",
        metavar="S",
        default=60,
        above=0,
    )
    infer_timeout: float = option(
        "seconds after which a request that waits for its video is answered without",
        group="limits",
        metavar="S",
        default=3600,
        above=0,
    )

    def __post_init__(self):
        super().__post_init__()
        if self.served_model_name is not None and not all(name.strip() for name in self.served_model_name.split(",")):
            raise UserError(f"{self.served_model_name}: give NAME or NAME,ALIAS", field="served_model_name")
        for name, form, such in (
            ("allowed_hosts", _HOST, "talk.example.org"),
            ("allowed_url_hosts", _HOST, "files.example.org or files.example.org:8443"),
            ("allowed_origins", _ORIGIN, "https://example.org"),
        ):
            for value in getattr(self, name):
                if not form.fullmatch(value):
                    raise UserError(f"{value}: give one such as {such}", field=name)
        for key in self.api_key:
            if not key.strip():
                raise UserError("a key is empty; give some characters", field="api_key")
        for name in self.size_buckets:
            if name not in buckets.BUCKETS:
                raise UserError(f"{name}: no such bucket; there are {', '.join(buckets.BUCKETS)}", field="size_buckets")

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine can call the server."""
        return _LOOPBACK.fullmatch(self.host) is not None

    def names(self, family: str) -> tuple[str, ...]:
        """By which requests may call the model; the first is shown.

        Args:
          family: of the weights.
        """
        return tuple(name.strip() for name in (self.served_model_name or family).split(","))

    def buckets(self, usual: str | None) -> tuple[str, ...]:
        """The tables of sizes that requests may use, the usual one first.

        Args:
          usual: the server's `size_bucket`; None of a model that has no tables.

        Raises:
          UserError: tables are given, and it has none.
        """
        if usual is None and self.size_buckets:
            raise UserError("this model has no tables of sizes; leave it out", field="size_buckets")
        return () if usual is None else tuple(dict.fromkeys((usual, *self.size_buckets)))
