"""What the pages made with gradio share: nothing comes from other hosts, mistakes are messages."""

from __future__ import annotations

import html
import importlib
import logging
import os
from collections.abc import Callable
from functools import wraps
from typing import Any

logger = logging.getLogger(__name__)
POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'self'; "
    "connect-src 'self' ws: wss:"
)


def import_gradio(extra: str, *others: str) -> Any:
    """gradio with its counting of users switched off.

    Raises ``ImportError`` naming ``extra`` where it, or one of the modules ``others``, is missing.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    names = ("gradio", *others)
    try:
        gradio, *_ = [importlib.import_module(name) for name in names]
    except ImportError as error:
        which = f"{' and '.join(names)}, which {'are' if others else 'is'} an extra"
        raise ImportError(f"--serve needs {which}: pip install '{extra}'") from error
    return gradio


def launch(blocks: Any, host: str, port: int, *, wait: bool = True, **options: Any) -> str:
    """Start ``blocks`` at ``host``:``port`` and return the address.

    Port 0 is the first free one from 7860 on; without ``wait`` the page runs in the background.
    ``options`` are more of gradio's own.
    """
    from starlette.middleware import Middleware

    quiet = {"footer_links": [], "quiet": True, "share": False, "ssr_mode": False}
    _, address, _ = blocks.launch(
        server_name=host,
        server_port=port or None,
        prevent_thread_lock=True,
        app_kwargs={"middleware": [Middleware(OwnSourcesOnly)]},
        **quiet,
        **options,
    )
    logger.info("the page is at %s; Ctrl-C ends", address)
    if wait:
        blocks.block_thread()
    return address


class OwnSourcesOnly:
    """Adds a Content-Security-Policy to every answer: nothing is fetched from elsewhere."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                header = (b"content-security-policy", POLICY.encode())
                message = {**message, "headers": [*message.get("headers", []), header]}
            await send(message)

        await self.app(scope, receive, send_with_policy)


def told(gr: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with the user's mistakes shown as messages on the page of ``gr``, gradio."""

    @wraps(function)
    def safe(*values: Any) -> Any:
        try:
            return function(*values)
        except (ValueError, FileNotFoundError, ImportError) as error:
            raise gr.Error(html.escape(str(error)), print_exception=False) from error

    return safe
