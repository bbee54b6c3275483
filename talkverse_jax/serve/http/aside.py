"""Long calls beside the event loop, in threads that nobody waits for at the end of the program.

(`asyncio.to_thread` has few threads, which the disk and the database need, and a program that ends waits for all.)
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Aside:
    """Runs calls in threads of their own.

    Args:
      most: at once; others wait.
    """

    def __init__(self, most: int):
        self._free = asyncio.Semaphore(most)

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """What the call returns, or raises."""
        async with self._free:
            loop = asyncio.get_running_loop()
            made: asyncio.Future[T] = loop.create_future()

            def tell(value: Any, error: BaseException | None) -> None:
                if made.done():  # nobody waits any more
                    return
                if error is None:
                    made.set_result(value)
                else:
                    made.set_exception(error)

            def call() -> None:
                value, failed = None, None
                try:
                    value = work(*args)
                except BaseException as error:
                    failed = error
                with contextlib.suppress(RuntimeError):  # the loop has ended
                    loop.call_soon_threadsafe(tell, value, failed)

            threading.Thread(target=call, daemon=True).start()
            return await made
