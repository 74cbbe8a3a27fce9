"""The page of ``prevalent demo --serve``: a thin layout around `explorer`, made with gradio.

It loads nothing from other places, and a policy in every answer has the browser see to that.
"""

from __future__ import annotations

import html
import logging
import os
from collections.abc import Callable
from functools import wraps
from typing import Any

from .explorer import Explorer, Walked
from .scenes import score_headers, score_rows, show_step

logger = logging.getLogger(__name__)
POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'self'; "
    "connect-src 'self' ws: wss:"
)
NOBODY = "nobody"


def serve(explorer: Explorer, host: str, port: int) -> None:
    """Show the page of ``explorer`` until Ctrl-C."""
    gradio = import_gradio()
    logger.info("agents: %s; data: %s", ", ".join(explorer.runs), explorer.data_dir)
    launch(build_page(explorer, gradio), host, port)


def launch(blocks: Any, host: str, port: int, *, wait: bool = True) -> str:
    """Start ``blocks`` at ``host``:``port`` and return the address.

    Port 0 is the first free one from 7860 on; without ``wait`` the page runs in the background.
    """
    from starlette.middleware import Middleware

    options = {"footer_links": [], "quiet": True, "share": False, "ssr_mode": False}
    _, address, _ = blocks.launch(
        server_name=host,
        server_port=port or None,
        prevent_thread_lock=True,
        app_kwargs={"middleware": [Middleware(OwnSourcesOnly)]},
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


def import_gradio() -> Any:
    """gradio with its counting of users switched off."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
        import matplotlib  # noqa: F401 (the maps need it)
    except ImportError as error:
        raise ImportError(
            "--serve needs gradio and matplotlib, which are an extra: "
            "pip install 'prevalent-vln[demo]'"
        ) from error
    return gradio


def build_page(explorer: Explorer, gradio: Any) -> Any:
    """The page: what to follow, who follows it, and both walks step by step."""
    gr, split = gradio, explorer.splits[0]
    scan = explorer.scans(split)[0]
    first = explorer.instructions(split, scan)[0]
    with gr.Blocks(title="PREVALENT", analytics_enabled=False) as blocks:
        gr.Markdown(
            "# PREVALENT\nAgents that follow instructions, a step at a time "
            f"({html.escape(str(explorer.folder))})."
        )
        with gr.Row():
            splits = gr.Dropdown(explorer.splits, value=split, label="Split", elem_id="split")
            scans = gr.Dropdown(explorer.scans(split), value=scan, label="Scan", elem_id="scan")
            ids = gr.Dropdown(
                _choices(explorer, split, scan),
                value=first.id,
                label="Start and goal of",
                elem_id="identity",
                scale=2,
            )
        text = gr.Textbox(
            first.text, label="Instruction (or type your own)", lines=2, elem_id="text"
        )
        with gr.Row():
            one = gr.Dropdown(
                explorer.agents, value=explorer.agents[0], label="Agent", elem_id="one"
            )
            other = gr.Dropdown(
                [*explorer.agents, NOBODY], value="shortest", label="Beside it", elem_id="other"
            )
            seed = gr.Number(0, label="Seed of the random agent", precision=0, elem_id="seed")
            run = gr.Button("Walk", variant="primary", elem_id="run")
        walks = gr.State([])
        step = gr.Slider(1, 2, 1, step=1, label="Step", elem_id="step")
        with gr.Row():
            back = gr.Button("Back", elem_id="back")
            ahead = gr.Button("Next", elem_id="next")
        with gr.Row():
            views = [gr.HTML(elem_id="view-one"), gr.HTML(elem_id="view-other")]
        table = gr.Dataframe(headers=score_headers(), elem_id="scores")

        def choose_split(split: str) -> tuple[Any, Any, str]:
            scans = explorer.scans(split)
            return gr.update(choices=scans, value=scans[0]), *choose_scan(split, scans[0])

        def choose_scan(split: str, scan: str) -> tuple[Any, str]:
            choices = _choices(explorer, split, scan)
            value = choices[0][1] if choices else None
            return gr.update(choices=choices, value=value), explorer.text(split, value or "")

        def walk(*values: Any) -> tuple[Any, ...]:
            found = walk_both(explorer, *values)
            longest = max(len(walked.trace.steps) for walked in found)
            slider = gr.update(minimum=1, maximum=max(2, longest), value=1)
            return found, slider, *show(found, 1), score_rows(found)

        splits.input(_told(gr, choose_split), splits, [scans, ids, text])
        scans.input(_told(gr, choose_scan), [splits, scans], [ids, text])
        ids.input(_told(gr, explorer.text), [splits, ids], text)
        run.click(
            _told(gr, walk), [splits, ids, text, one, other, seed], [walks, step, *views, table]
        )
        step.input(_told(gr, show), [walks, step], views)
        for button, by in ((back, -1), (ahead, 1)):
            button.click(_told(gr, _turn(by)), [walks, step], [step, *views])
    return blocks


def walk_both(
    explorer: Explorer,
    split: str,
    identity: str,
    text: str,
    *agents_and_seed: Any,
) -> list[Walked]:
    """Walks of the one agent and, unless it is nobody, of the other."""
    one, other, seed = agents_and_seed
    agents = [one] if other in (NOBODY, None) else [one, other]
    return [explorer.walk(agent, split, identity, text, int(seed or 0)) for agent in agents]


def show(walks: list[Walked], number: float) -> tuple[str, str]:
    """HTML of step ``number``, counted from 1, of both walks."""
    if not walks:
        raise ValueError("nobody has walked yet; press Walk")
    shown = [show_step(walked, int(number) - 1) for walked in walks]
    return shown[0], shown[1] if len(shown) > 1 else ""


def _turn(by: int) -> Callable[[list[Walked], float], tuple[int, str, str]]:
    """What a button does: ``by`` steps on, as far as there are any."""

    def turn(walks: list[Walked], number: float) -> tuple[int, str, str]:
        longest = max((len(walked.trace.steps) for walked in walks), default=1)
        new = min(max(1, int(number) + by), longest)
        return new, *show(walks, new)

    return turn


def _choices(explorer: Explorer, split: str, scan: str) -> list[tuple[str, str]]:
    """(shown, id) of the instructions of a split in a scan."""
    return [(f"{one.id}: {one.text[:45]}", one.id) for one in explorer.instructions(split, scan)]


def _told(gr: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with its ``ValueError`` shown as a message on the page."""

    @wraps(function)
    def safe(*values: Any) -> Any:
        try:
            return function(*values)
        except (ValueError, FileNotFoundError, ImportError) as error:
            raise gr.Error(html.escape(str(error)), print_exception=False) from error

    return safe
