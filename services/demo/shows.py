"""One show a job kind: what is posted, what is printed, and what would be wrong."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import ImageEnhance

from services.demo.drawn import WEARING, drawn_archive
from services.demo.photos import encoded, group, masked_portrait, portrait
from services.demo.service import Client

OUTPUT = Path("demo-output")
FACE = (160, 50, 290, 200)  # in the portrait
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
        print(f"  before: {_caption(face['before'])}")
        for step in face["steps"]:
            print(f"  after {step['defense']}: {_caption(step)}")
        alarm = {True: "suspicious", False: "not suspicious", None: "no threshold"}
        print(
            f"  verdict: {face['verdict']}, squeezing score {face['squeezing_score']}: "
            f"{alarm[face['squeezing_suspicious']]}"
        )
    print(f"  -> {_save(client, job, image['report'], 'defend.png')}")
    return all(face["steps"][-1]["label"] == "with_mask" for face in image["faces"])


def show_encrypt(client: Client) -> bool:
    """Cloak the portrait; whether it came back verified, and less like itself."""
    job = client.post_photos("/v1/jobs/encrypt", {"bare.jpg": encoded(portrait())}, preset="high")
    if job["state"] != "succeeded":
        print(json.dumps(job, indent=2))
        return False
    result = job["result"]
    (image,) = result["images"]
    (face,) = image["faces"]
    for similar in face["similarities"]:
        print(
            f"  {similar['recognizer']} ({similar['role']}): similarity {similar['before']:.2f} -> "
            f"{similar['after']:.2f}, after JPEG {similar['after_jpeg']:.2f}"
        )
    print(f"  verdict: {face['verdict']}, SSIM of the face {face['ssim']:.3f}")
    print(f"  -> {_save(client, job, image['photo'], 'encrypt.jpg')}")
    print(f"  -> {_save(client, job, image['report'], 'encrypt-report.png')}")
    judged = [one for one in face["similarities"] if one["role"] == "judge"]
    return bool(judged) and all(one["after"] < one["before"] - 0.2 for one in judged)


def show_evaluate(client: Client) -> bool:
    """Judge the default classifier on two faces, clean and attacked through a defense."""
    job = client.post_photos(
        "/v1/jobs/evaluate",
        {
            "bare.jpg": encoded(portrait().crop(FACE)),
            "masked.jpg": encoded(masked_portrait().crop(FACE)),
        },
        labels=json.dumps(["without_mask", "with_mask"]),
        attacks=json.dumps([{"name": "fgsm", "eps": 8}, {"name": "pgd", "eps": 8}]),
        defenses=json.dumps([[{"name": "jpeg"}]]),
    )
    if job["state"] != "succeeded":
        print(json.dumps(job, indent=2))
        return False
    result = job["result"]
    clean = result["reports"][0]["accuracy"]
    print(f"  clean: {clean['successes']} of {clean['total']} right")
    for row in result["rows"]:
        held, total = row["robust_accuracy"]["successes"], row["robust_accuracy"]["total"]
        print(f"  {row['attack']}, defense {row['defense']}: {held} of {total} still right")
    print(f"  -> {_save(client, job, result['table'], 'evaluate.png')}")
    return bool(clean["successes"] == clean["total"])


def show_generate_mask(client: Client) -> bool:
    """Design a mask for one person; whether it hides that person better than a plain one."""
    photos = {
        f"{light:.1f} {turn}.jpg": encoded(
            ImageEnhance.Brightness(portrait().rotate(turn)).enhance(light)
        )
        for light in (0.85, 1.0, 1.1)
        for turn in (0, 5)
    }
    job = client.post_photos(
        "/v1/jobs/generate-mask",
        photos,
        hyperparameters=json.dumps({"epochs": 60, "max_lr": 0.01}),
        designs="4",
    )
    if job["state"] != "succeeded":
        print(json.dumps(job, indent=2))
        return False
    result = job["result"]
    seen: dict[str, dict[str, float]] = {}
    for row in result["figures"]:
        seen.setdefault(f"{row['recognizer']} ({row['role']})", {})[row["wearing"]] = row[
            "similarity"
        ]
    for name, wearing in seen.items():
        said = ", ".join(f"{what} {similarity:.2f}" for what, similarity in wearing.items())
        print(f"  similarity to the bare face, {name}: {said}")
    print(f"  {result['tested']}; {result['designs'][0]['width_mm']:.0f} mm wide")
    print(f"  -> {_save(client, job, result['worn'], 'generate-mask-worn.png')}")
    print(f"  -> {_save(client, job, result['designs'][0]['page'], 'generate-mask.pdf')}")
    searched = next(wearing for name, wearing in seen.items() if "surrogate" in name)
    return searched["ours"] < searched["plain blue"]


def show_train(client: Client) -> bool:
    """Train on uploaded drawn faces in three classes; whether the model knows new ones."""
    archive = drawn_archive(tuple(WEARING), each=60)
    job = client.post_file("/v1/datasets", archive, "application/zip", name="drawn faces")
    if job["state"] != "succeeded":
        print(json.dumps(job, indent=2))
        return False
    job = client.post_json(
        "/v1/jobs/train",
        {
            "datasets": [job["result"]["dataset"]],
            "model_id": "drawn",
            "task": "mask3",
            "architecture": "cnn",
            "hyperparameters": {"epochs": 20, "batch_size": 24, "max_lr": 0.002},
        },
    )
    if job["state"] != "succeeded":
        print(json.dumps(job, indent=2))
        return False
    result = job["result"]
    test = result["test"]["accuracy"]
    print(f"  {sum(result['data']['training'].values())} drawn faces to learn from")
    print(
        f"  test: {test['right']} of {test['total']} right, "
        f"{test['rate']:.1%} [{test['low']:.1%}, {test['high']:.1%}], best epoch "
        f"{result['best_epoch']} of {len(result['epochs'])}, {result['timing']['total']:.0f} s"
    )
    print(f"  {result['how_to_use']}")
    print(f"  -> {_save(client, job, result['curves'], 'train.png')}")
    return bool(test["rate"] > 0.7)


def _caption(labeled: Json) -> str:
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
    "encrypt": show_encrypt,
    "evaluate": show_evaluate,
    "generate-mask": show_generate_mask,
    "train": show_train,
}
