"""The page of ``fqgan demo --serve``: a thin layout around `explorer`, made with gradio.

It loads nothing from other places, and a policy in every answer has the browser see to that.
"""

from __future__ import annotations

import html
import logging
from collections.abc import Callable
from typing import Any

from ..runtime import web
from ..runtime.web import told
from .explorer import TRUNCATIONS, Explorer

logger = logging.getLogger(__name__)


def serve(explorer: Explorer, host: str, port: int) -> None:
    """Show the page of ``explorer`` until Ctrl-C."""
    launch(build_page(explorer, import_gradio()), host, port)


def launch(blocks: Any, host: str, port: int, *, wait: bool = True) -> str:
    """`web.launch` with a bound on uploads, and without gradio's test of its own address.

    That test fails behind a proxy and on a busy machine.
    """
    return web.launch(blocks, host, port, wait=wait, max_file_size="20mb", _frontend=False)


def import_gradio() -> Any:
    """gradio; raises ``ImportError`` naming the extra."""
    return web.import_gradio("fq-gan[demo]")


def build_page(explorer: Explorer, gradio: Any) -> Any:
    """The page with one tab for each thing to do with these weights."""
    tabs: dict[str, Callable[[Any, Explorer], None]] = {}
    if explorer.gallery is not None:
        tabs |= {
            "Classes": _classes_tab,
            "Interpolation": _interpolation_tab,
            "Truncation": _truncation_tab,
        }
    if explorer.translator is not None:
        tabs["Translation"] = _translation_tab
    tabs["Codebook"] = _codebook_tab if explorer.codebooks else _no_codebook_tab
    with gradio.Blocks(title="FQ-GAN", analytics_enabled=False) as blocks:
        gradio.Markdown(f"# FQ-GAN\n{explorer.family}, {explorer.resolution} pixels.")
        for name, fill in tabs.items():
            with gradio.Tab(name):
                fill(gradio, explorer)
    return blocks


def _classes_tab(gr: Any, explorer: Explorer) -> None:
    assert explorer.gallery is not None
    names = explorer.gallery.class_names
    classes = gr.Dropdown(
        names, value=names[:10], multiselect=True, max_choices=20, label="Classes, a row each",
        elem_id="classes-names",
    )  # fmt: skip
    with gr.Row():
        columns = gr.Slider(1, 16, 8, step=1, label="Images a row")
        seed = gr.Number(0, label="Seed of the first column", precision=0, elem_id="classes-seed")
        truncation = _truncation(gr, explorer)
    run = gr.Button("Draw", variant="primary", elem_id="classes-run")
    sheet = _picture(gr, "classes-sheet")
    run.click(told(gr, explorer.sheet), [classes, columns, seed, truncation], sheet)


def _interpolation_tab(gr: Any, explorer: Explorer) -> None:
    assert explorer.gallery is not None
    names = explorer.gallery.class_names
    gr.Markdown("Rows: noise and class change, only the noise, only the class.")
    with gr.Row():
        first = gr.Dropdown(names, value=names[0], label="From class", elem_id="way-from")
        first_seed = gr.Number(0, label="Seed", precision=0, elem_id="way-first-seed")
        last = gr.Dropdown(names, value=names[-1], label="To class", elem_id="way-to")
        last_seed = gr.Number(1, label="Seed", precision=0, elem_id="way-last-seed")
    with gr.Row():
        steps = gr.Slider(3, 16, 10, step=1, label="Images")
        truncation = _truncation(gr, explorer)
    run = gr.Button("Go", variant="primary", elem_id="way-run")
    row = _picture(gr, "way-row")

    def go(first: str, one: float, last: str, other: float, steps: int, truncation: float) -> Any:
        return explorer.interpolation((first, one), (last, other), steps, truncation)

    run.click(told(gr, go), [first, first_seed, last, last_seed, steps, truncation], row)


def _truncation_tab(gr: Any, explorer: Explorer) -> None:
    assert explorer.gallery is not None
    names = explorer.gallery.class_names
    columns = ", ".join(f"{value:g}" for value in TRUNCATIONS)
    gr.Markdown(f"A row a seed; columns: {columns} ({explorer.gallery.truncation}).")
    with gr.Row():
        name = gr.Dropdown(names, value=names[0], label="Class")
        seed = gr.Number(0, label="First seed", precision=0, elem_id="truncation-seed")
        rows = gr.Slider(1, 10, 4, step=1, label="Rows")
    run = gr.Button("Draw", variant="primary", elem_id="truncation-run")
    sheet = _picture(gr, "truncation-sheet")
    run.click(told(gr, explorer.truncations), [name, seed, rows], sheet)


def _translation_tab(gr: Any, explorer: Explorer) -> None:
    ways = list(explorer.directions)
    direction = gr.Radio(ways, value=ways[0], label="Direction", elem_id="translation-way")
    upload, number = _source(gr, explorer, "translation")
    run = gr.Button("Translate", variant="primary", elem_id="translation-run")
    with gr.Row():
        given = _picture(gr, "translation-given", "Given")
        made = _picture(gr, "translation-made", "Translated")
        heat = _picture(gr, "translation-heat", "Where the generator looks")
    sentence = gr.Textbox(label="What happened", elem_id="translation-text")
    inputs, outputs = [upload, number, direction], [given, made, heat, sentence]
    translate = told(gr, lambda *values: tuple(explorer.translate(*values)))
    run.click(translate, inputs, outputs)


def _codebook_tab(gr: Any, explorer: Explorer) -> None:
    domains = list(explorer.codebooks)
    layers = list(explorer.codebooks[domains[0]].sizes)
    gr.Markdown(
        "Every place of the discriminator's feature map has the number of its nearest code. Click "
        "on a place to see the image patches that are nearest to its code. Compared with: "
        f"{html.escape(explorer.samples.source)}."
    )
    with gr.Row():
        domain = gr.Dropdown(
            domains, value=domains[0], label="Discriminator of", visible=len(domains) > 1
        )
        layer = gr.Dropdown(layers, value=layers[-1], label="Layer", elem_id="codebook-layer")
        code = gr.Number(None, label="Code", precision=0, elem_id="codebook-code")
    upload, number = _source(gr, explorer, "codebook")
    with gr.Row():
        run = gr.Button("Show codes", variant="primary", elem_id="codebook-run")
        only = gr.Button("Show this code only", elem_id="codebook-only")
    with gr.Row():
        shown = _picture(gr, "codebook-map", "Codes")
        patches = _picture(gr, "codebook-patches", "Patches of the code, nearest first")
    sentence = gr.Textbox(label="The code", elem_id="codebook-text")
    rows = gr.Dataframe(
        headers=["code", "places in this image", "% of all places"], elem_id="codebook-rows"
    )
    given, inputs = [domain, layer], [domain, layer, upload, number]

    def click(domain: str, layer: str, upload: Any, number: float, event: Any) -> tuple[Any, ...]:
        width, height = explorer.codes(domain, layer, upload, number)[0].size
        at = (event.index[0] / width, event.index[1] / height)
        found = explorer.code_at(domain, layer, upload, number, at)
        return (found, *explorer.patches(domain, layer, found))

    clicked = told(gr, click)
    clicked.__annotations__["event"] = gr.SelectData  # how gradio knows that it is wanted
    run.click(told(gr, explorer.codes), inputs, [shown, rows])
    only.click(told(gr, explorer.codes), [*inputs, code], [shown, rows])
    shown.select(clicked, inputs, [code, patches, sentence])
    code.submit(told(gr, explorer.patches), [*given, code], [patches, sentence])
    only.click(told(gr, explorer.patches), [*given, code], [patches, sentence])


def _no_codebook_tab(gr: Any, explorer: Explorer) -> None:
    gr.Markdown(
        "There is no dictionary to look into: these weights came without discriminator, or it was "
        "trained without quantizer."
    )


def _source(gr: Any, explorer: Explorer, name: str) -> tuple[Any, Any]:
    """A picture of one's own, or the number of a sample."""
    most = max(len(images) for images in explorer.samples.images.values())
    with gr.Row():
        upload = gr.File(
            label="Your picture (else the sample)", type="filepath", elem_id=f"{name}-upload",
            height=120,
        )  # fmt: skip
        number = gr.Slider(0, max(1, most - 1), 0, step=1, label="Sample", visible=most > 0)
    return upload, number


def _truncation(gr: Any, explorer: Explorer) -> Any:
    assert explorer.gallery is not None
    label = f"Truncation ({explorer.gallery.truncation})"
    return gr.Slider(0, 1.5, explorer.gallery.usual_truncation, step=0.05, label=label)


def _picture(gr: Any, identity: str, label: str = "") -> Any:
    return gr.Image(
        label=label or None, show_label=bool(label), type="pil", format="png", interactive=False,
        buttons=["download", "fullscreen"],
        elem_id=identity,
    )  # fmt: skip
