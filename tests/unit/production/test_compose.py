"""The compose file: what runs, how hardened, and with which secrets."""

import json
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.settings import DEFAULT_SECRETS, load_settings
from tests.fixtures.process import find_binary

ROOT = Path(__file__).resolve().parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONE_SHOTS = {"secrets", "bucket", "migrate", "keys"}
OURS = {"api", "worker", "worker-interactive", "keeper"}
each_service = pytest.mark.parametrize("name", SERVICES)


def secrets_script() -> str:
    script: str
    (script,) = SERVICES["secrets"]["command"]
    return script.replace("$$", "$")


def make_secrets(folder: Path) -> dict[str, str]:
    """Run the one-shot's own script on another folder; returns the files' texts."""
    for name in ("postgres", "database", "redis", "s3"):
        (folder / name).mkdir(exist_ok=True)
    script = secrets_script().replace("cd /secrets", f"cd '{folder}'")
    subprocess.run(["sh", "-euc", script], check=True, stdin=subprocess.DEVNULL)
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): file.read_text().strip() for file in files}


def test_all_that_the_service_needs_is_there() -> None:
    assert set(SERVICES) == ONE_SHOTS | OURS | {"postgres", "redis", "s3"}


@each_service
def test_a_container_has_no_more_rights_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    user, _, group = service["user"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert not {"privileged", "cap_add", "pid", "ipc", "devices"} & service.keys()
    assert all("docker.sock" not in str(volume) for volume in service.get("volumes", []))


@each_service
def test_a_container_is_bounded(name: str) -> None:
    service = SERVICES[name]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert service["logging"]["options"]["max-size"]


@each_service
def test_every_folder_mounted_from_outside_is_a_named_volume(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        assert volume.split(":")[0] in COMPOSE["volumes"]


@each_service
def test_images_are_pinned_to_an_exact_version(name: str) -> None:
    assert re.fullmatch(r"[a-z0-9./-]+:\d+\.\d+(\.\d+)?(-[a-z0-9]+)?", SERVICES[name]["image"])


def test_only_the_api_is_published_and_on_loopback_only() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"api": ["127.0.0.1:${BAUTA_PORT:-8000}:8000"]}


def test_servers_are_on_internal_networks_only() -> None:
    assert COMPOSE["networks"]["data"] == {"internal": True}
    assert COMPOSE["networks"]["objects"] == {"internal": True}
    outside = {name for name, service in SERVICES.items() if "edge" in service.get("networks", [])}
    assert outside == {"api"}
    assert SERVICES["secrets"]["network_mode"] == "none"


def test_the_unauthenticated_parts_of_the_object_store_stay_on_its_loopback() -> None:
    command = SERVICES["s3"]["command"]
    assert "-ip.bind=127.0.0.1" in command
    assert "-s3.ip.bind=0.0.0.0" in command
    assert "-s3.config=/secrets/s3/s3.json" in command


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - ONE_SHOTS))
def test_what_runs_on_is_restarted_and_watched(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    dockerfile = service.get("build", {}).get("dockerfile")
    in_image = dockerfile and "HEALTHCHECK" in (ROOT / dockerfile).read_text()
    assert service.get("healthcheck") or in_image


@pytest.mark.parametrize("name", sorted(ONE_SHOTS))
def test_a_one_shot_runs_once(name: str) -> None:
    assert SERVICES[name]["restart"] == "no"


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_process_starts_after_all_that_it_needs(name: str) -> None:
    needed = {
        "migrate": {"condition": "service_completed_successfully"},
        "bucket": {"condition": "service_completed_successfully"},
        "redis": {"condition": "service_healthy"},
    }
    if name == "api":  # it refuses to start on a public address without a key
        needed["keys"] = {"condition": "service_completed_successfully"}
    assert SERVICES[name]["depends_on"] == needed


@pytest.mark.parametrize("name", ["worker", "worker-interactive", "api", "keeper"])
def test_a_service_can_be_scaled(name: str) -> None:
    service = SERVICES[name]
    assert "container_name" not in service
    assert "hostname" not in service


def test_one_worker_is_kept_for_interactive_jobs() -> None:
    assert SERVICES["worker-interactive"]["command"][:3] == ["worker", "--queues", "interactive"]
    assert SERVICES["worker"]["command"][:3] == ["worker", "--queues", "interactive,batch"]


def test_no_password_stands_in_the_file() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|KEY_ID", name):
                assert name.endswith("_FILE")
                assert value.startswith("/secrets/")
            assert not re.search(r"://[^/@]*:[^/@]+@", str(value))
    assert not any(word in DEFAULT_SECRETS for word in secrets_script().split())


def test_only_a_server_and_our_processes_see_its_password() -> None:
    holders = {
        secret: {
            name
            for name, service in SERVICES.items()
            if any(str(volume).startswith(secret) for volume in service.get("volumes", []))
        }
        for secret in ("secrets-postgres", "secrets-database", "secrets-redis", "secrets-s3")
    }
    assert holders["secrets-postgres"] == {"secrets", "postgres", "migrate"}, "the owner's"
    assert holders["secrets-database"] == OURS | {"secrets", "migrate", "keys"}
    assert holders["secrets-redis"] == OURS | {"secrets", "redis"}
    assert holders["secrets-s3"] == OURS | {"secrets", "s3"}


def test_passwords_are_random_strong_and_closed_to_others(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    made = make_secrets(first)
    assert set(made) == {
        "postgres/password",
        "database/password",
        "redis/password",
        "redis/redis.conf",
        "s3/access-key-id",
        "s3/secret-access-key",
        "s3/s3.json",
    }
    for name in (
        "postgres/password",
        "database/password",
        "redis/password",
        "s3/secret-access-key",
    ):
        assert re.fullmatch("[0-9a-f]{64}", made[name])
    assert not set(made.values()) & set(make_secrets(second).values())
    for name in made:
        assert stat.S_IMODE((first / name).stat().st_mode) & 0o007 == 0


def test_passwords_survive_a_second_start(tmp_path: Path) -> None:
    made = make_secrets(tmp_path)
    assert make_secrets(tmp_path) == made


def test_the_object_store_is_given_the_credentials_that_we_sign_with(tmp_path: Path) -> None:
    made = make_secrets(tmp_path)
    (identity,) = json.loads(made["s3/s3.json"])["identities"]
    assert identity["credentials"] == [
        {"accessKey": made["s3/access-key-id"], "secretKey": made["s3/secret-access-key"]}
    ]
    assert all(action.endswith(":bauta") for action in identity["actions"])


def test_our_settings_accept_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_secrets(tmp_path)
    for name, value in SERVICES["worker"]["environment"].items():
        text = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", str(value))
        monkeypatch.setenv(name, text.replace("/secrets", str(tmp_path)))
    settings = load_settings()
    assert settings.database.password == made["database/password"]
    assert settings.broker == f"redis://default:{made['redis/password']}@redis:6379/0"
    assert settings.s3_access_key_id == made["s3/access-key-id"]
    assert settings.s3_secret_access_key is not None
    assert settings.s3_secret_access_key.get_secret_value() == made["s3/secret-access-key"]
    assert settings.objects_location == "s3://bauta"


def test_the_api_in_a_container_asks_for_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    command = SERVICES["api"]["command"]
    assert load_settings(host=command[command.index("--host") + 1]).keys_required


def test_every_variable_of_the_operator_is_documented() -> None:
    used = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    guide = (ROOT / "docs" / "deployment.md").read_text()
    assert used == set(re.findall(r"^\| `(BAUTA_\w+)` \|", guide, re.MULTILINE))


def test_the_gpu_overlay_lends_workers_a_gpu() -> None:
    overlay = yaml.safe_load((ROOT / "docker-compose.gpu.yml").read_text())["services"]
    assert set(overlay) == {"worker", "worker-interactive"}
    for service in overlay.values():
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["driver"] == "nvidia"
        assert device["capabilities"] == ["gpu"]
        assert service["environment"] == {"BAUTA_DEVICE": "cuda"}


@pytest.mark.parametrize("overlays", [[], ["docker-compose.gpu.yml"]], ids=["plain", "gpu"])
def test_docker_compose_reads_it(overlays: list[str], tmp_path: Path) -> None:
    compose = find_binary("docker-compose")
    files = ["docker-compose.yml", *overlays]
    for file in files:
        shutil.copy(ROOT / file, tmp_path)
    arguments = [part for file in files for part in ("-f", file)]
    done = subprocess.run(
        [compose, *arguments, "config"],
        check=True,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "COMPOSE_PROJECT_NAME": "bauta"},
        capture_output=True,
        text=True,
    )
    assert set(yaml.safe_load(done.stdout)["services"]) == set(SERVICES)
