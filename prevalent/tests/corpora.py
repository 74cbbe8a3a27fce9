"""Records of Room-to-Room in the official forms of the data sets that came after it."""

import gzip
import json
import math
from pathlib import Path

LANGUAGES = ("en-IN", "hi-IN", "te-IN", "en-US")


def read_items(folder: Path, split: str) -> list[dict]:
    return json.loads((folder / "r2r" / f"R2R_{split}.json").read_text())


def write_lines(path: Path, records) -> None:
    """JSON lines, packed where the name ends in .gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(record) + "\n" for record in records).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


def guides(items: list[dict]) -> list[dict]:
    """RxR's guides: the texts take turns in the languages."""
    found = []
    for item in items:
        for text in item["instructions"]:
            number = len(found)
            found.append(
                {
                    "split": "train",
                    "instruction_id": number,
                    "annotator_id": 7,
                    "language": LANGUAGES[number % len(LANGUAGES)],
                    "path_id": item["path_id"],
                    "scan": item["scan"],
                    "path": item["path"],
                    "heading": item["heading"],
                    "instruction": text,
                    "timed_instruction": [{"word": text.split()[0], "start_time": 0.4}],
                    "edit_distance": 0.1,
                }
            )
    return found


def followers(records: list[dict]) -> list[dict]:
    """RxR's followers, who went where the guides say."""
    return [
        {
            "demonstration_id": number,
            "instruction_id": record["instruction_id"],
            "annotator_id": 8,
            "path": record["path"],
            "metrics": {"ne": 0.0, "sr": 1.0, "spl": 1.0, "dtw": 0.0, "ndtw": 1.0, "sdtw": 1.0},
        }
        for number, record in enumerate(records)
    ]


def write_reverie(folder: Path, items: list[dict], split: str) -> None:
    """REVERIE's items, whose object is seen from the end of the path and the place before it."""
    boxes = {}
    records = []
    for number, item in enumerate(items):
        records.append(
            {**item, "ix": number, "objId": number, "id": f"{item['path_id']}_{number}"}
            | {"instructions_l": item["instructions"]}
        )
        for place in item["path"][-2:]:
            objects = boxes.setdefault(f"{item['scan']}_{place}", {})
            objects[str(number)] = {
                "name": "lamp",
                "visible_pos": [3, 15],
                "bbox2d": [[10, 20, 30, 40], [5, 6, 7, 8]],
            }
            objects["hidden"] = {"name": "mat", "visible_pos": [], "bbox2d": []}
    place = folder / "reverie"
    place.mkdir(exist_ok=True)
    (place / f"REVERIE_{split}.json").write_text(json.dumps(records))
    before = place / "BBoxes.json"
    known = json.loads(before.read_text()) if before.exists() else {}
    for name, objects in boxes.items():
        known.setdefault(name, {}).update(objects)
    before.write_text(json.dumps(known))


def target(heading: float = 1.0, elevation: float = 0.0, size: float = 0.2) -> dict:
    """Corners of an object, in radians."""
    left, right = heading - size / 2, heading + size / 2
    low, high = elevation - size / 2, elevation + size / 2
    return {
        "center": {"heading": heading, "elevation": elevation},
        "left_top": {"heading": left, "elevation": high},
        "right_top": {"heading": right, "elevation": high},
        "right_bottom": {"heading": right, "elevation": low},
        "left_bottom": {"heading": left, "elevation": low},
    }


def soon_items(items: list[dict]) -> list[dict]:
    """SOON's items: several paths and five texts an instruction; the object is at the last end."""
    return [
        {
            "instr_id": f"item{number}",
            "path": [item["path"], item["path"][1:]],
            "instructions": [["a lamp", "on a desk", "in a room", "near a hall", text]],
            "bboxes": [
                {
                    "scan": item["scan"],
                    "image_id": item["path"][-1],
                    "obj_name": "lamp",
                    "heading": 1.0,
                    "elevation": 0.0,
                    "target": target(),
                }
            ],
        }
        for number, item in enumerate(items)
        for text in item["instructions"][:1]
    ]


def shares(heading: float, elevation: float) -> tuple[float, float]:
    """A direction in radians as SOON's result files have it."""
    return heading / (2 * math.pi), (elevation + math.pi) / (2 * math.pi)
