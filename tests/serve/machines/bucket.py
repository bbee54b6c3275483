"""A bucket of the tests' own."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

_KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@dataclass(frozen=True)
class Bucket:
    """A bucket.

    Attributes:
      address: s3://NAME.
      environ: with which programs find it.
    """

    address: str
    environ: Mapping[str, str]

    def files(self) -> list[str]:
        """What is in it."""
        import s3fs

        url = self.environ["AWS_ENDPOINT_URL"]
        found = s3fs.S3FileSystem(key="test", secret="test", endpoint_url=url, use_listings_cache=False)
        return sorted(found.find(self.address.removeprefix("s3://")))


@contextmanager
def bucket() -> Iterator[Bucket]:
    """One that programs of this machine can use, while the block lasts."""
    server = pytest.importorskip("moto.server")
    boto3, _ = pytest.importorskip("boto3"), pytest.importorskip("s3fs")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    try:
        host, port = running.get_host_and_port()
        url = f"http://{host}:{port}"
        asked = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        boto3.client("s3", endpoint_url=url, **asked).create_bucket(Bucket="talk")
        yield Bucket("s3://talk", {**_KEYS, "AWS_ENDPOINT_URL": url})
    finally:
        running.stop()
