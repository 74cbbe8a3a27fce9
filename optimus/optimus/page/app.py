"""The page of ``optimus demo --serve``: a thin layout around `explorer`, made with gradio.

It loads nothing from other places, and a policy in every answer has the browser see to that.
"""

from __future__ import annotations

import html
import logging
from pathlib import Path
from typing import Any

from ..runtime import web
from ..runtime.web import launch, told
from .explorer import Explorer, load_explorer
from .plots import render_bars

logger = logging.getLogger(__name__)
STYLE = ".table-wrap * { font-family: inherit } #attributes-moved textarea { font-size: 1.3em }"


def serve(
    run_dir: Path, host: str, port: int, text: Path | None = None, step: int | None = None
) -> None:
    """Show the page of the model in ``run_dir`` until Ctrl-C; see `load_explorer`."""
    explorer = load_explorer(run_dir, text, step=step)
    gradio = import_gradio()
    logger.info("%d sentences: %s", len(explorer.sentences), explorer.source)
    logger.info("serving %s", run_dir)
    launch(build_page(explorer, gradio), host, port, css=STYLE)


def import_gradio() -> Any:
    """gradio; raises ``ImportError`` naming the extra."""
    return web.import_gradio("optimus-vae[demo]")


def build_page(explorer: Explorer, gradio: Any) -> Any:
    """The page with one tab for each thing to do."""
    with gradio.Blocks(title="Optimus", analytics_enabled=False) as blocks:
        gradio.Markdown(
            f"# Optimus\nA sentence is a vector of {explorer.latents.shape[1]} numbers: change the "
            f"numbers, and the sentence changes. Compared with {len(explorer.sentences)} sentences "
            f"({html.escape(explorer.source)})."
        )
        tabs = {
            "Attributes": _attributes_tab,
            "Interpolate": _interpolate_tab,
            "Analogy": _analogy_tab,
            "Encode": _encode_tab,
            "Around": _around_tab,
            "Map": _map_tab,
        }
        for name, fill in tabs.items():
            with gradio.Tab(name):
                begin = fill(gradio, explorer)
            if begin is not None:  # the first tab opens with its answer
                blocks.load(*begin)
    return blocks


def _attributes_tab(gr: Any, explorer: Explorer) -> Any:
    text = gr.Textbox(explorer.openings[0], label="Sentence", elem_id="attributes-text")
    rows = [[sentence] for sentence in explorer.openings[:6]]
    tried = gr.Examples(
        rows, text, label="Take one of these, or type your own", elem_id="attributes-try"
    )
    moved = gr.Textbox(label="Moved", elem_id="attributes-moved", lines=2)
    with gr.Row():
        sliders = [
            gr.Slider(-2, 2, 0, step=0.05, label=direction.name, elem_id=f"attributes-{number}")
            for number, direction in enumerate(explorer.directions)
        ]
    with gr.Row():
        run = gr.Button("Move", variant="primary", elem_id="attributes-run")
        back = gr.Button("All back to 0", elem_id="attributes-back")
    alone = gr.Dataframe(
        headers=["one unit along", "sentence"], elem_id="attributes-alone", wrap=True
    )

    def move(text: str, *amounts: float) -> str:
        return explorer.move(text, amounts)

    def show(text: str, *amounts: float) -> tuple[str, list[list[str]]]:
        return move(text, *amounts), [[*row] for row in explorer.variants(text)]

    def begin(text: str) -> tuple[Any, ...]:
        still = [0.0] * len(sliders)
        return (*show(text, *still), *still)

    run.click(told(gr, show), [text, *sliders], [moved, alone])
    for slider in sliders:
        slider.release(told(gr, move), [text, *sliders], moved)
    opening = (told(gr, begin), [text], [moved, alone, *sliders])
    for event in (text.submit, back.click, tried.load_input_event.success):
        event(*opening)
    with gr.Accordion("An attribute of your own", open=False):
        lacking = gr.Textbox(label="Sentences that lack it, one a line", lines=3)
        having = gr.Textbox(label="Sentences that have it, one a line", lines=3)
        amount = gr.Slider(-2, 2, 1, step=0.05, label="Amount")
        other = gr.Button("Move by examples")
        result = gr.Textbox(label="Moved by examples")
        inputs = [text, lacking, having, amount]
        other.click(told(gr, explorer.move_by_examples), inputs, result)
    return opening


def _interpolate_tab(gr: Any, explorer: Explorer) -> None:
    first, last = explorer.examples.pairs[0]
    source = gr.Textbox(first, label="From", elem_id="interpolate-from")
    target = gr.Textbox(last, label="To", elem_id="interpolate-to")
    steps = gr.Slider(1, 30, 10, step=1, label="Steps")
    run = gr.Button("Interpolate", variant="primary", elem_id="interpolate-run")
    rows = gr.Dataframe(
        headers=["share of the way", "sentence"], elem_id="interpolate-rows", wrap=True
    )

    def interpolate(source: str, target: str, steps: float) -> list[list[Any]]:
        return [[*row] for row in explorer.interpolate(source, target, int(steps))]

    run.click(told(gr, interpolate), [source, target, steps], rows)
    pairs = [[*pair] for pair in explorer.examples.pairs]
    gr.Examples(pairs, [source, target], label="Take two of these", elem_id="interpolate-try")


def _analogy_tab(gr: Any, explorer: Explorer) -> None:
    gr.Markdown("A is to B as C is to ...")
    with gr.Row():
        texts = [
            gr.Textbox(sentence, label=name, elem_id=f"analogy-{name.lower()}")
            for name, sentence in zip("ABC", explorer.examples.analogies[0], strict=True)
        ]
    degree = gr.Slider(0, 2, 1, step=0.05, label="Degree")
    run = gr.Button("Complete", variant="primary", elem_id="analogy-run")
    answer = gr.Textbox(label="D", elem_id="analogy-d")
    run.click(told(gr, explorer.analogy), [*texts, degree], answer)
    rows = [[*row] for row in explorer.examples.analogies]
    gr.Examples(rows, texts, label="Take three of these", elem_id="analogy-try")


def _encode_tab(gr: Any, explorer: Explorer) -> None:
    text = gr.Textbox(explorer.sentences[0], label="Sentence", elem_id="encode-text")
    others = gr.Textbox(
        label="Compare with (one sentence a line; empty: the sample)",
        lines=3,
        elem_id="encode-others",
    )
    run = gr.Button("Encode", variant="primary", elem_id="encode-run")
    decoded = gr.Textbox(label="Decoded from its vector", elem_id="encode-decoded")
    bars = gr.HTML(label="z", elem_id="encode-bars")
    nearest = gr.Dataframe(
        headers=["nearest sentence", "distance"], elem_id="encode-nearest", wrap=True
    )

    def encode(text: str, others: str) -> tuple[str, str, list[list[Any]]]:
        found = explorer.encode(text, others)
        return found.sentence, render_bars(found.latent.tolist()), [[*row] for row in found.nearest]

    run.click(told(gr, encode), [text, others], [decoded, bars, nearest])


def _around_tab(gr: Any, explorer: Explorer) -> None:
    text = gr.Textbox(explorer.openings[0], label="Sentence", elem_id="around-text")
    with gr.Row():
        radius = gr.Slider(0, 3, 0.5, step=0.05, label="Radius", elem_id="around-radius")
        count = gr.Slider(1, 100, 20, step=1, label="Draws")
        seed = gr.Number(0, label="Seed", precision=0)
    run = gr.Button("Draw", variant="primary", elem_id="around-run")
    rows = gr.Dataframe(headers=["sentence", "times"], elem_id="around-rows")

    def sample(text: str, radius: float, count: float, seed: float | None) -> list[list[Any]]:
        return [[*row] for row in explorer.sample(text, radius, int(count), int(seed or 0))]

    run.click(told(gr, sample), [text, radius, count, seed], rows)


def _map_tab(gr: Any, explorer: Explorer) -> None:
    names = list(explorer.groups) or ["sample"]
    with gr.Row():
        attribute = gr.Dropdown(names, value=names[0], label="Colour")
        projection = gr.Radio(["pca", "tsne"], value="pca", label="Projection")
    own = gr.Textbox(label="Your sentences, one a line", lines=2, elem_id="map-own")
    run = gr.Button("Draw", variant="primary", elem_id="map-run")
    picture = gr.HTML(elem_id="map-picture")

    def draw(attribute: str, projection: Any, own: str) -> str:
        page = html.escape(explorer.draw_map(attribute, projection, own))
        return (
            '<iframe title="map of latents" style="border:0; width:100%; height:880px; '
            f'background:white" srcdoc="{page}"></iframe>'
        )

    run.click(told(gr, draw), [attribute, projection, own], picture)
