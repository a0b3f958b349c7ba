"""Models by their names on the hub, in every command that takes one, against a hub on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import socket
import subprocess
import sys
import termios
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import CommandResult
from fake_hub import FakeHub, fake_hub
from fork_server import fork_server
from llava import published
from safetensors.torch import load_file, save_file

from mmduet.errors import DownloadError, ModelNotFoundError
from mmduet.model import load_model
from mmduet.model.checkpoint import read_manifest

BASE, DUET = "lmms-lab/llava-onevision-qwen2-7b-ov", "wangyueqian/MMDuet"
NEEDED = sorted(
    [f"{DUET}/{name}" for name in ("adapter_config.json", "adapter_model.safetensors")]
    + [f"{BASE}/config.json", f"{BASE}/tokenizer.json", f"{BASE}/model.safetensors.index.json"]
    + [f"{BASE}/model-0000{k}-of-00002.safetensors" for k in (1, 2)]
)


@dataclass(frozen=True)
class Commands:
    """Runs commands with the hub's address, in an empty folder and with an empty cache."""

    hub: FakeHub
    path: str
    folder: Path
    cache: Path

    def __call__(self, *arguments: object, **variables: str) -> CommandResult:
        environment = {**os.environ, "PATH": self.path, "HF_HOME": str(self.cache), **variables}
        command = [shutil.which("mmduet", path=self.path) or "mmduet", *map(str, arguments)]
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, check=False, env=environment, timeout=120
        )
        return CommandResult(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FakeHub, str, Path]]:
    cache = tmp_path_factory.mktemp("cache") / "hf"
    with fake_hub() as hub:
        variables = {"HF_ENDPOINT": hub.url, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "0"}
        with fork_server(tmp_path_factory.mktemp("server"), variables) as binaries:
            yield hub, os.pathsep.join([str(binaries), os.environ["PATH"]]), cache


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small base and adapter in the published layout, with files beside them that nobody needs."""
    root = tmp_path_factory.mktemp("checkpoints")
    base, duet = published(root).values()
    for folder in (base, duet):
        for name in ("README.md", "training_args.bin", "optimizer.pt", ".gitattributes"):
            (folder / name).write_bytes(b"not needed")
    (base / "pytorch_model.bin").write_bytes(b"a pickle")
    (base / "consolidated.safetensors").write_bytes(b"the same weights again")
    return root


def write_adapter_config(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, **values}))


@pytest.fixture
def mmduet(served: tuple[FakeHub, str, Path], checkpoints: Path, tmp_path: Path) -> Iterator[Commands]:
    hub, path, cache = served
    hub.repositories.clear()
    hub.add(BASE, checkpoints / "base")
    hub.add(DUET, checkpoints / "duet")
    hub.requests.clear()
    hub.ranges.clear()
    yield Commands(hub, path, tmp_path, cache)
    hub.status = 200
    shutil.rmtree(cache, ignore_errors=True)


def split_numbers(text: str) -> tuple[list[str], list[float]]:
    """Return what is between the decimal numbers of a text, and the numbers."""
    parts = re.split(r"(\d+\.\d+(?:e-?\d+)?)", text)
    return parts[::2], list(map(float, parts[1::2]))


def test_published_weights_narrate_a_video_and_only_needed_files_are_downloaded_once(
    mmduet: Commands, video: Path
) -> None:
    done = mmduet("run", video, "--model", DUET, "--max-new-tokens", 4, "--output", "events.jsonl")
    assert done.status == 0, done.err
    assert "of video" in done.err
    assert f"downloading {DUET}: 0.00 GiB into {mmduet.cache}" in done.err
    assert "Traceback" not in done.err
    assert mmduet.hub.downloaded() == NEEDED
    first = (mmduet.folder / "events.jsonl").read_text()
    for status in (200, 0):  # the cache is enough, also without the hub
        mmduet.hub.status = status
        again = mmduet("run", video, "--model", DUET, "--max-new-tokens", 4, "--output", "events.jsonl", "--quiet")
        assert again == (0, "", "")
        texts, numbers = split_numbers((mmduet.folder / "events.jsonl").read_text())
        assert texts == split_numbers(first)[0]
        # Which frames the tower encodes together depends on how fast they are decoded, and rounding on that.
        assert numbers == pytest.approx(split_numbers(first)[1], abs=1e-5)
    assert mmduet.hub.downloaded() == NEEDED


def test_downloads_show_progress_on_a_terminal(mmduet: Commands) -> None:
    reader, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 100))
    command = [shutil.which("mmduet", path=mmduet.path) or "mmduet", "inspect", DUET]
    done = subprocess.run(command, stderr=terminal, stdout=subprocess.PIPE, cwd=mmduet.folder, check=False)
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):  # the end of the terminal
        while part := os.read(reader, 1 << 16):
            shown += part
    os.close(reader)
    assert done.returncode == 0
    assert re.search(rb"Fetching 5 files: +100%", shown), shown


@pytest.mark.slow
def test_offline_mode_uses_the_cache(mmduet: Commands) -> None:
    assert mmduet("inspect", DUET).status == 0
    mmduet.hub.requests.clear()
    environment = {**os.environ, "HF_ENDPOINT": mmduet.hub.url, "HF_HOME": str(mmduet.cache), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "mmduet", "inspect", DUET, "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(json.loads(done.stdout)["revisions"]) == 2
    assert mmduet.hub.requests == []


def test_inspect_names_the_commits(mmduet: Commands) -> None:
    for name in (f"hf:{DUET}@v1", f"{DUET}@{mmduet.hub.repositories[DUET].commit}"):
        done = mmduet("inspect", name, "--json")
        assert done.status == 0, done.err
        properties = json.loads(done.out)
        assert properties["loads"] is True
        assert properties["heads"] == ["informative", "relevance"]
        assert properties["revisions"] == [f"{n}@{mmduet.hub.repositories[n].commit}" for n in (BASE, DUET)]


def test_the_same_weights_in_directories_give_the_same_model(mmduet: Commands, checkpoints: Path) -> None:
    done = mmduet("convert", DUET, "converted")
    assert done.status == 0, done.err
    commits = {part: f"{n}@{mmduet.hub.repositories[n].commit}" for part, n in (("source", BASE), ("adapter", DUET))}
    manifest = read_manifest(mmduet.folder / "converted")
    assert manifest["model"]["name"] == "MMDuet"
    assert set(manifest["converted_from"].values()) == set(commits.values())
    base = shutil.copytree(checkpoints / "base", mmduet.folder / "base")
    found = load_model(mmduet.folder / "converted").network.state_dict()
    expected = load_model(base, adapter=checkpoints / "duet").network.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.slow
def test_predictions_record_the_commits(mmduet: Commands, video: Path) -> None:
    row = {"question_id": "q", "video": video.name, "conversation": [{"role": "user", "content": "What?", "time": 0}]}
    (mmduet.folder / "test.json").write_text(json.dumps([{**row, "question": "What?", "duration": 3}]))
    arguments = ("predict", "--annotations", "test.json", "--videos", video.parent, "--output", "out.jsonl", "--model")
    done = mmduet(*arguments, DUET, "--max-new-tokens", 2)
    assert done.status == 0, done.err
    settings = json.loads((mmduet.folder / "out.jsonl.settings.json").read_text())
    assert settings["revisions"] == [f"{n}@{mmduet.hub.repositories[n].commit}" for n in (BASE, DUET)]
    shutil.rmtree(mmduet.cache)  # the same commit downloaded again is the same model
    assert mmduet(*arguments, DUET, "--max-new-tokens", 2).status == 0
    mmduet.hub.repositories[DUET].files["README.md"] = b"another commit"
    again = mmduet(*arguments, DUET, "--max-new-tokens", 2)
    assert (again.status, "made with other settings (adapter, revisions)" in again.err) == (2, True)


@pytest.mark.slow
def test_tasks_and_the_python_api(mmduet: Commands, video: Path) -> None:
    done = mmduet("caption", video, "--model", BASE, "--adapter", DUET, "--output", "captions.json")
    assert done.status == 0, done.err
    program = (
        "import mmduet\n"
        f"result, = mmduet.pipeline('caption', model='{DUET}')('{video}')\n"
        "result.raise_for_error()\n"
        f"print(result.model, mmduet.load_model('hf:{BASE}', adapter='{DUET}').config.name)"
    )
    api = mmduet("-c", program)
    assert (api.status, api.out.split()) == (0, ["MMDuet", "llava-onevision-qwen2-7b-ov"]), api.err


SERVE = """
import json, os, signal, sys, threading, time, urllib.request
from mmduet.cli.main import main

def request(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(ADDRESS + path, data, headers)) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)

def check():
    while True:
        try:
            status, models = request("/v1/models")
            break
        except OSError:
            time.sleep(0.05)
    print([model["id"] for model in models["data"]])
    for model in ("someone/else", "hf:someone/else", "lmms-lab/llava-onevision-qwen2-7b-ov"):
        content = [{"type": "text", "text": "What?"}]
        status, answer = request("/v1/chat/completions", {"model": model, "messages": [{"role": "user", "content": content}]})
        print(status, answer["error"]["message"])
    for adapter in ("mine", "someone/else", "hf:someone/else"):
        session = {"type": "realtime", "duet": {"adapter": adapter}}
        status, answer = request("/v1/sessions", {"source": VIDEO, "session": session})
        print(status, answer)
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=check, daemon=True).start()
main()
"""


def test_a_server_downloads_what_its_settings_name_and_nothing_for_clients(mmduet: Commands, video: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = (
        f"import sys\nsys.argv = ['mmduet', 'serve', '--port', '{port}']\n"
        f"ADDRESS, VIDEO = 'http://127.0.0.1:{port}', '{video.as_uri()}'\n"
    )
    settings = {
        "MMDUET_MODEL": BASE,
        "MMDUET_ADAPTERS": json.dumps({"mine": DUET}),
        "MMDUET_PULL_ROOTS": str(video.parent),
    }
    done = mmduet("-c", start + SERVE, **settings)
    answers = [line for line in done.out.splitlines() if line.startswith("[") or line[:3].isdecimal()]
    assert answers[0] == "['llava-onevision-qwen2-7b-ov']", done.err
    assert all("someone/else" in line and line[:2] == "40" for line in (*answers[1:3], *answers[5:])), done.out
    assert answers[4].startswith("201"), done.out
    assert mmduet.hub.downloaded() == NEEDED
    assert not any("someone" in path for _, path in mmduet.hub.requests)


@pytest.mark.slow
def test_an_existing_directory_wins_and_hf_forces_the_hub(mmduet: Commands, checkpoints: Path) -> None:
    shutil.copytree(checkpoints / "base", mmduet.folder / BASE)
    shutil.copytree(checkpoints / "duet", mmduet.folder / DUET)
    local = mmduet("inspect", BASE, "--adapter", DUET, "--json")
    assert (local.status, json.loads(local.out)["path"]) == (0, BASE)
    assert mmduet("convert", DUET, "converted").status == 0  # a local adapter brings its base, too
    assert mmduet.hub.requests == []
    forced = mmduet("inspect", f"hf:{BASE}", "--adapter", f"hf:{DUET}", "--json")
    assert (forced.status, len(json.loads(forced.out)["revisions"])) == (0, 2)


@pytest.mark.slow
def test_a_broken_transfer_is_resumed(mmduet: Commands, checkpoints: Path, tmp_path: Path) -> None:
    """The hub's client resumes at multiples of 10 MiB, so the file is longer than that."""
    duet = shutil.copytree(checkpoints / "duet", tmp_path / "duet")
    tensors = load_file(duet / "adapter_model.safetensors")
    save_file(tensors, duet / "adapter_model.safetensors", metadata={"note": "x" * 11_000_000})
    mmduet.hub.add(DUET, duet)
    mmduet.hub.break_once[f"{DUET}/adapter_model.safetensors"] = 10_600_000
    done = mmduet("convert", DUET, "converted")
    assert done.status == 0, done.err
    assert mmduet.hub.ranges == ["adapter_model.safetensors bytes=10485760-"]


@pytest.mark.slow
def test_an_interrupted_download_continues_with_the_missing_files(mmduet: Commands) -> None:
    shard = "model-00002-of-00002.safetensors"
    mmduet.hub.broken.add(f"{BASE}/{shard}")
    failed = mmduet("convert", DUET, "converted")
    fails(failed, 5, "download_failed", "cannot be downloaded", "run the command again: it continues")
    assert not (mmduet.folder / "converted").exists()
    mmduet.hub.status = 503
    fails(mmduet("convert", DUET, "converted"), 5, "download_failed", "the model is not complete in the cache")
    mmduet.hub.status = 200
    mmduet.hub.broken.clear()
    mmduet.hub.requests.clear()
    assert mmduet("convert", DUET, "converted").status == 0
    assert mmduet.hub.downloaded() == [f"{BASE}/{shard}"]


def fails(done: CommandResult, status: int, code: str, *words: str) -> None:
    assert done.status == status, done.err
    assert f"error[{code}]" in done.err
    assert "Traceback" not in done.err
    for part in words:
        assert part in done.err, done.err


def test_a_missing_model_is_reported_with_both_readings(mmduet: Commands) -> None:
    fails(
        mmduet("inspect", "no/such"), 5, "model_not_found",
        "'no/such' can be a directory or a model on the hub: there is no such directory, and there is no such model at",
        "set HF_TOKEN for a private model",
    )  # fmt: skip
    missing = mmduet("inspect", "hf:no/such")
    fails(missing, 5, "model_not_found", "'no/such' is not available: there is no such model at", "set HF_TOKEN")
    assert "directory" not in missing.err
    fails(mmduet("inspect", f"{DUET}@v9"), 5, "model_not_found", f"{DUET} has no revision 'v9'")
    fails(
        mmduet("inspect", "a/b/c"),
        5,
        "model_not_found",
        "model 'a/b/c' is neither a directory nor one of nano, ",
    )
    fails(mmduet("inspect", "hf:nano"), 5, "model_not_found", "is named hf:OWNER/NAME", "got 'hf:nano'")
    assert mmduet.hub.downloaded() == []


def test_a_gated_model_needs_a_token(mmduet: Commands) -> None:
    mmduet.hub.repositories[BASE].token = "hf_right"
    for variables in ({}, {"HF_TOKEN": "hf_wrong"}):
        fails(
            mmduet("inspect", DUET, **variables),
            5,
            "download_failed",
            f"{BASE} is gated: accept its terms at",
            "HF_TOKEN",
        )
    assert mmduet("inspect", DUET, HF_TOKEN="hf_right").status == 0


@pytest.mark.parametrize("status", [503, 429, 0])
def test_an_unreachable_hub_is_reported(mmduet: Commands, status: int) -> None:
    mmduet.hub.status = status
    fails(
        mmduet("inspect", DUET), 5, "download_failed", f"{DUET}' can be a directory or a model on the hub",
        "is not in the cache", f"{mmduet.hub.url} cannot be reached", "or give the directory of a checkpoint",
    )  # fmt: skip


def test_a_hub_that_answers_404_without_a_reason_has_no_such_model(mmduet: Commands) -> None:
    mmduet.hub.status = 404
    fails(mmduet("inspect", "no/such"), 5, "model_not_found", "no/such' can be a directory or a model on the hub")


def test_a_disk_without_space_is_reported_before_downloading(mmduet: Commands) -> None:
    mmduet.hub.repositories[BASE].sizes["model-00001-of-00002.safetensors"] = 10**18
    done = mmduet("inspect", DUET)
    fails(
        done,
        5,
        "download_failed",
        f"{BASE}@",
        "takes 931322574.6 GiB, but the disk of",
        "set HF_HOME to a folder on another",
    )
    assert not [name for name in mmduet.hub.downloaded() if name.endswith("of-00002.safetensors")]


def test_an_unusable_cache_is_reported(mmduet: Commands) -> None:
    mmduet.cache.parent.mkdir(exist_ok=True)
    mmduet.cache.write_bytes(b"a file")
    fails(mmduet("inspect", DUET), 5, "download_failed", f"{DUET} cannot be written to {mmduet.cache}/hub (")
    mmduet.cache.unlink()


def test_a_disk_that_is_full_is_reported_and_the_next_command_continues(mmduet: Commands) -> None:
    """The system's limit on the size of files stands for a full disk; it allows for the adapter, not for the base."""
    program = (
        "import resource, sys\n"
        "from mmduet.cli.main import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        f"sys.argv = ['mmduet', 'inspect', '{DUET}']\n"
        "main()"
    )
    fails(
        mmduet("-c", program), 5, "download_failed", f"{BASE}@", f"cannot be written to {mmduet.cache}/hub (File too large)",
        "make space, or set HF_HOME to a folder on another disk, and run the command again: it continues",
    )  # fmt: skip
    assert not list(mmduet.cache.rglob("*.incomplete"))
    mmduet.hub.requests.clear()
    assert mmduet("inspect", DUET).status == 0
    assert f"{DUET}/adapter_model.safetensors" not in mmduet.hub.downloaded()


def test_another_kind_of_model_is_refused_before_its_weights_are_downloaded(mmduet: Commands, tmp_path: Path) -> None:
    config = {"architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"x")
    mmduet.hub.add("Qwen/Qwen2.5-VL-7B-Instruct", tmp_path)
    done = mmduet("inspect", "Qwen/Qwen2.5-VL-7B-Instruct")
    fails(done, 5, "bad_checkpoint", "Qwen/Qwen2.5-VL-7B-Instruct holds Qwen2.5-VL", "Supported are LLaVA-OneVision")
    assert mmduet.hub.downloaded() == ["Qwen/Qwen2.5-VL-7B-Instruct/config.json"]


@pytest.mark.slow
def test_pickles_are_downloaded_only_if_allowed(mmduet: Commands, checkpoints: Path, tmp_path: Path) -> None:
    base, duet = (shutil.copytree(checkpoints / name, tmp_path / name) for name in ("base", "duet"))
    shards = [load_file(shard) for shard in base.glob("model-*.safetensors")]
    torch.save({name: tensor for shard in shards for name, tensor in shard.items()}, base / "pytorch_model.bin")
    for file in [*base.glob("*.safetensors"), base / "model.safetensors.index.json"]:
        file.unlink()
    torch.save(load_file(duet / "adapter_model.safetensors"), duet / "adapter_model.bin")
    mmduet.hub.add(BASE, base)
    fails(
        mmduet("inspect", DUET),
        5,
        "bad_checkpoint",
        f"{BASE} contains its weights as pickles (pytorch_model.bin)",
        "--allow-pickle",
    )
    (duet / "adapter_model.safetensors").unlink()
    mmduet.hub.add(DUET, duet)
    fails(mmduet("inspect", DUET), 5, "bad_checkpoint", f"{DUET} contains its weights as pickles (adapter_model.bin)")
    assert not [name for name in mmduet.hub.downloaded() if name.endswith(".bin")]
    done = mmduet("inspect", DUET, "--allow-pickle")
    assert done.status == 0, done.err
    assert {f"{BASE}/pytorch_model.bin", f"{DUET}/adapter_model.bin"} <= {*mmduet.hub.downloaded()}


@pytest.mark.slow
def test_adapters_name_their_bases(mmduet: Commands, checkpoints: Path, tmp_path: Path) -> None:
    def publish(**values: Any) -> None:
        write_adapter_config(duet, **values)
        mmduet.hub.add(DUET, duet)

    duet = shutil.copytree(checkpoints / "duet", tmp_path / "duet")
    publish(revision="v1")
    assert json.loads(mmduet("inspect", DUET, "--json").out)["loads"]
    publish(base_model_name_or_path=str(checkpoints / "base"), revision=None)
    assert BASE not in mmduet("inspect", DUET).out
    publish(base_model_name_or_path=None)
    fails(mmduet("inspect", DUET), 5, "bad_checkpoint", "adapter_config.json names no base; give a base as model")
    publish(base_model_name_or_path="/data/llava")
    fails(mmduet("inspect", DUET), 5, "model_not_found", f"the adapter {DUET} was trained on /data/llava")
    publish(base_model_name_or_path=DUET)
    fails(mmduet("inspect", DUET), 5, "bad_checkpoint", f"{DUET} is the base of an adapter and an adapter itself")
    publish(base_model_name_or_path=BASE)
    fails(mmduet("inspect", DUET, "--adapter", duet), 2, "bad_option", f"{DUET} is itself an adapter, so the adapter")
    fails(mmduet("inspect", BASE, "--adapter", BASE), 5, "bad_checkpoint", f"{BASE} is not an adapter")


@pytest.mark.slow
def test_a_checkpoint_in_our_format_and_a_single_file_are_found(mmduet: Commands, checkpoints: Path) -> None:
    assert mmduet("convert", DUET, "converted").status == 0
    mmduet.hub.add("me/mine", mmduet.folder / "converted")
    done = mmduet("inspect", "me/mine", "--json")
    assert (done.status, json.loads(done.out)["kind"]) == (0, "mmduet"), done.err
    weights = mmduet.folder / "empty"
    weights.mkdir()
    save_file({"a": torch.zeros(1)}, weights / "other.safetensors")
    mmduet.hub.add("me/weights", weights)
    fails(mmduet("inspect", "me/weights"), 5, "bad_checkpoint", "me/weights is not a checkpoint: it contains neither")


def test_offline_mode_is_named(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"'no/such' can be .* while HF_HUB_OFFLINE forbids downloading; unset it"):
        load_model("no/such")
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE"):
        load_model("nano", adapter="no/such")
    with pytest.raises(ModelNotFoundError, match="neither a directory"):
        load_model(tmp_path / "none")


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DownloadError, match="needs huggingface_hub; run: pip install huggingface_hub"):
        load_model("no/such")


def test_the_manifest_of_an_adapter_is_downloaded_with_it(mmduet: Commands, checkpoints: Path, tmp_path: Path) -> None:
    duet = shutil.copytree(checkpoints / "duet", tmp_path / "with manifest")
    (duet / "mmduet.json").write_text(json.dumps({"format": 1}))
    mmduet.hub.add(DUET, duet)
    done = mmduet("inspect", DUET)
    assert done.status == 0, done.err
    assert f"{DUET}/mmduet.json" in mmduet.hub.downloaded()
