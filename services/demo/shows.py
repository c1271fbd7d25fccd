"""One show a job kind: what is posted, what is printed, and what would be wrong."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from services.demo.photos import encoded, group, masked_portrait, portrait
from services.demo.service import Client

OUTPUT = Path("demo-output")
Json = dict[str, Any]


def show_classify(client: Client) -> bool:
    """Classify the portrait bare, masked, and as a group; whether all labels are right."""
    photos = {"bare": portrait(), "masked": masked_portrait(), "group": group()}
    expected = {
        "bare": {"without_mask": 1},
        "masked": {"with_mask": 1},
        "group": {"with_mask": 2, "without_mask": 2},
    }
    job = client.post_photos(
        "/v1/jobs/classify", {f"{name}.jpg": encoded(photo) for name, photo in photos.items()}
    )
    if job["state"] != "succeeded":
        print(json.dumps(job, indent=2))
        return False
    right = True
    for name, image in zip(photos, job["result"]["images"], strict=True):
        path = _save(client, job, image["annotated"], f"classify-{name}.jpg")
        labels = [face["label"] for face in image["faces"]]
        found = {label: labels.count(label) for label in sorted(set(labels))}
        right &= found == expected[name]
        print(f"  {name} ({image['width']}x{image['height']}): {len(labels)} face(s) -> {path}")
        for face in image["faces"]:
            box = face["box"]
            chance = face["probabilities"][face["label"]]
            where = f"at {box['x']:.0f},{box['y']:.0f} {box['width']:.0f}x{box['height']:.0f}"
            print(f"    {face['label']:20} {chance:6.1%}  {where}")
    models = ", ".join(model["id"] for model in job["result"]["models"])
    print(f"  {models}, {job['result']['timing']['total']:.2f} s on {job['result']['device']}")
    return right


def show_attack(client: Client) -> bool:
    """Attack two faces with gradients, and with few pixels; whether gradients fooled any."""
    photos = {"bare.jpg": encoded(portrait()), "masked.jpg": encoded(masked_portrait())}
    shown = {
        "pgd": {"attack": json.dumps({"name": "pgd", "eps": 8})},
        "pixels": {
            "attack": json.dumps({"name": "de", "pixels": 5, "generations": 30}),
            "model": "mask-cnn-32",
        },
    }
    fooled = {}
    for name, fields in shown.items():
        job = client.post_photos("/v1/jobs/attack", photos, **fields)
        if job["state"] != "succeeded":
            print(json.dumps(job, indent=2))
            return False
        result = job["result"]
        for image in result["images"]:
            for face in image["faces"]:
                before, after = face["confidence_before"], face["confidence_after"]
                print(
                    f"  {name}: {face['label']} {before:.1%} -> {face['label_after']}, true label "
                    f"{after:.1%}, {face['changed_pixels']} pixels by up to {face['linf']}/255, "
                    f"{face['queries']} queries"
                )
        fooled[name] = result["success"]["successes"]
        path = _save(client, job, result["report"], f"attack-{name}.png")
        print(f"  {fooled[name]} of {result['success']['counted']} fooled -> {path}")
    return bool(fooled["pgd"] > 0)


def show_defend(client: Client) -> bool:
    """Defend a masked face; whether its label is still right."""
    job = client.post_photos("/v1/jobs/defend", {"masked.jpg": encoded(masked_portrait())})
    if job["state"] != "succeeded":
        print(json.dumps(job, indent=2))
        return False
    image = job["result"]["images"][0]
    for face in image["faces"]:
        print(f"  before: {_said(face['before'])}")
        for step in face["steps"]:
            print(f"  after {step['defense']}: {_said(step)}")
        print(f"  verdict: {face['verdict']}, squeezing score {face['squeezing_score']}")
    print(f"  -> {_save(client, job, image['report'], 'defend.png')}")
    return all(face["steps"][-1]["label"] == "with_mask" for face in image["faces"])


def _said(labeled: Json) -> str:
    return f"{labeled['label']} {labeled['probabilities'][labeled['label']]:.1%}"


def _save(client: Client, job: Json, artifact: str, name: str) -> Path:
    found = next(a for a in job["artifacts"] if a["name"] == artifact)
    path = OUTPUT / name
    path.write_bytes(client.get(found["url"]))
    return path


SHOWS: Mapping[str, Callable[[Client], bool]] = {
    "attack": show_attack,
    "classify": show_classify,
    "defend": show_defend,
}
