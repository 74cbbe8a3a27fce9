"""One agent's surroundings in words, as a map, and as a picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..simulator.geometry import VIEW_ELEVATIONS, VIEW_HEADINGS, Camera, canonical_angle
from ..simulator.graph import Candidates, Graphs
from ..simulator.rendering import load_skybox, sample_skybox, view_rays

Caption = Callable[[str, str, int], str]
"""What is to be seen from (scan, viewpoint) in a view 0..35."""

COMPASS = ("north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west")
AHEAD, BEHIND = math.radians(15), math.radians(165)
LEVEL = 0.5  # meters of climb that are worth a word

MAP_SIZE = 480  # pixels
MARGIN = 30
WHITE, LINE, DOT = (255, 255, 255), (205, 205, 205), (120, 120, 120)
WALKED, AGENT, GOAL, CHOICE = (31, 119, 180), (214, 39, 40), (44, 160, 44), (255, 127, 14)


@dataclass(frozen=True)
class Scene:
    """Where one agent is, and how it came there."""

    graphs: Graphs
    candidates: Candidates
    walked: Sequence[int]  # nodes, the current one last
    view: int  # 0..35
    goal: int  # node
    text: str  # the instruction, "" without one
    step: int
    others: Mapping[int, str] = field(default_factory=lambda: {0: "stop here"})
    """What the actions do that lead nowhere, in words."""

    @property
    def node(self) -> int:
        """The current node."""
        return self.walked[-1]

    @property
    def targets(self) -> list[int]:
        """Nodes that the actions 1, 2, ... lead to."""
        return self.candidates.target[self.node, : self.candidates.count[self.node]].tolist()


def turn_in_words(angle: float) -> str:
    """A turn of ``angle`` radians to the right, in words."""
    angle = float(canonical_angle(angle))
    if abs(angle) < AHEAD:
        return "straight ahead"
    if abs(angle) > BEHIND:
        return "behind you"
    return f"{abs(math.degrees(angle)):.0f} degrees to your {'right' if angle > 0 else 'left'}"


def tell_scene(scene: Scene, caption: Caption | None = None) -> str:
    """The instruction, the agent's direction and its numbered choices; the goal is not told."""
    graphs, node = scene.graphs, scene.node
    heading = float(VIEW_HEADINGS[scene.view])
    facing = COMPASS[round(heading / (2 * math.pi) * 8) % 8]
    lines = [f"Instruction: {scene.text}"] if scene.text else []
    lines.append(f"Step {scene.step}. You face {facing}. Your choices:")
    choices = dict(scene.others)
    for j, target in enumerate(scene.targets):
        offset = graphs.positions[target] - graphs.positions[node]
        turn = turn_in_words(scene.candidates.heading[node, j] - heading)
        words = f"go {np.linalg.norm(offset):.1f} m, {turn}"
        if abs(offset[2]) > LEVEL:
            words += f", {abs(offset[2]):.1f} m {'up' if offset[2] > 0 else 'down'}"
        if caption is not None:
            view = int(scene.candidates.view[node, j])
            words += f": {caption(graphs.scan_of(node), graphs.viewpoints[node], view)}"
        choices[j + 1] = words
    lines += [f"{number}: {choices[number]}" for number in sorted(choices)]
    return "\n".join(lines)


def draw_scene(scene: Scene) -> NDArray[np.uint8]:
    """The scan from above, north upwards, as (480, 480, 3).

    Blue is the walk, red the agent with its heading, green the goal; the numbers are the actions.
    """
    from PIL import Image, ImageDraw

    graphs = scene.graphs
    nodes = graphs.connected(graphs.scan_of(scene.node))
    flat = graphs.positions[:, :2]
    low, high = flat[nodes].min(axis=0), flat[nodes].max(axis=0)
    scale = (MAP_SIZE - 2 * MARGIN) / max(float((high - low).max()), 1e-6)

    def place(node: int) -> tuple[float, float]:
        x, y = (flat[node] - (low + high) / 2) * scale
        return MAP_SIZE / 2 + float(x), MAP_SIZE / 2 - float(y)

    image = Image.new("RGB", (MAP_SIZE, MAP_SIZE), WHITE)
    draw = ImageDraw.Draw(image)
    for node in nodes.tolist():
        for other in graphs.neighbors[node, : graphs.degree[node]].tolist():
            if node < other:
                draw.line([place(node), place(other)], fill=LINE)
    for node in nodes.tolist():
        _disc(draw, place(node), 3, DOT)
    if len(scene.walked) > 1:
        draw.line([place(node) for node in scene.walked], fill=WALKED, width=3)
    _disc(draw, place(scene.goal), 8, GOAL)
    for j, target in enumerate(scene.targets):
        _disc(draw, place(target), 4, CHOICE)
        x, y = place(target)
        draw.text((x + 5, y - 12), str(j + 1), fill=CHOICE)
    x, y = place(scene.node)
    heading = float(VIEW_HEADINGS[scene.view])
    draw.line(
        [(x, y), (x + 18 * math.sin(heading), y - 18 * math.cos(heading))], fill=AGENT, width=3
    )
    _disc(draw, (x, y), 6, AGENT)
    return np.asarray(image)


def draw_view(scene: Scene, skyboxes: Path, camera: Camera | None = None) -> NDArray[np.uint8]:
    """What the agent's camera sees, (H, W, 3).

    ``skyboxes`` has ``SCAN/matterport_skybox_images``; raises ``SimulatorError`` naming a missing
    image.
    """
    graphs, node = scene.graphs, scene.node
    folder = skyboxes / graphs.scan_of(node) / "matterport_skybox_images"
    heading, elevation = float(VIEW_HEADINGS[scene.view]), float(VIEW_ELEVATIONS[scene.view])
    rays = view_rays(heading, elevation, camera or Camera())
    return sample_skybox(
        load_skybox(folder, graphs.viewpoints[node]), rays @ graphs.rotations[node]
    )


def _disc(draw, place: tuple[float, float], radius: float, color: tuple[int, int, int]) -> None:
    x, y = place
    draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=color)
