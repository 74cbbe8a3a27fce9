"""The page of ``prevalent demo --serve``: a thin layout around `explorer`, made with gradio.

It loads nothing from other places, and a policy in every answer has the browser see to that.
"""

from __future__ import annotations

import html
import logging
from collections.abc import Callable
from typing import Any

from ..runtime import web
from ..runtime.web import launch, told
from .explorer import Explorer, Walked
from .scenes import score_headers, score_rows, show_step

logger = logging.getLogger(__name__)
NOBODY = "nobody"


def serve(explorer: Explorer, host: str, port: int) -> None:
    """Show the page of ``explorer`` until Ctrl-C."""
    gradio = import_gradio()
    logger.info("agents: %s; data: %s", ", ".join(explorer.runs), explorer.data_dir)
    launch(build_page(explorer, gradio), host, port)


def import_gradio() -> Any:
    """gradio and what draws the maps; raises ``ImportError`` naming the extra."""
    return web.import_gradio("prevalent-vln[demo]", "matplotlib")


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

        choose_split, choose_scan, walk = _answers(gr, explorer)
        splits.input(told(gr, choose_split), splits, [scans, ids, text])
        scans.input(told(gr, choose_scan), [splits, scans], [ids, text])
        ids.input(told(gr, explorer.text), [splits, ids], text)
        run.click(
            told(gr, walk), [splits, ids, text, one, other, seed], [walks, step, *views, table]
        )
        step.input(told(gr, show), [walks, step], views)
        for button, by in ((back, -1), (ahead, 1)):
            button.click(told(gr, _turn(by)), [walks, step], [step, *views])
    return blocks


def _answers(gr: Any, explorer: Explorer) -> tuple[Callable[..., Any], ...]:
    """What happens when a split or a scan is chosen and when Walk is pressed."""

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

    return choose_split, choose_scan, walk


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
