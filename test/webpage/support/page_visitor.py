"""Visitors of the live page over HTTP, and the files that they upload."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx2
from live_server import RunningServer, wait_for

HTTP = httpx2.Client(timeout=60)  # one, because creating a client takes long


class Visitor:
    """A visitor with a client secret of its own, as every tab of a browser has."""

    def __init__(self, server: RunningServer, key: str | None = None) -> None:
        self.base = f"{server.http}/page/"
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        secret = HTTP.post(f"{server.http}/v1/realtime/client_secrets", headers=headers).json()["value"]
        self.headers = {"Authorization": f"Bearer {secret}"}

    def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """Send a request; ``path`` is relative to the page."""
        headers = self.headers | options.pop("headers", {})
        return HTTP.request(method, self.base + path, headers=headers, **options)

    def get(self, path: str, **options: Any) -> httpx2.Response:
        """Return the response to a GET request."""
        return self.request("GET", path, **options)

    def get_json(self, path: str) -> Any:
        """Return what a path has; it must exist."""
        response = self.get(path)
        assert response.status_code == 200, response.text
        return response.json()

    def delete(self, path: str) -> int:
        """Delete something and return the status."""
        return self.request("DELETE", path).status_code

    def post_video(self, data: Any, name: str = "video.mp4", **options: Any) -> httpx2.Response:
        """Upload a file and return the response."""
        return self.request("POST", "uploads", params={"name": name}, content=data, **options)

    def upload(self, data: bytes, name: str = "video.mp4") -> dict[str, Any]:
        """Upload a video, which must be accepted."""
        response = self.post_video(data, name)
        assert response.status_code == 201, response.text
        return response.json()

    def wait_for_preview(self, upload_id: str) -> dict[str, Any]:
        """Return an upload once its preview is finished."""
        states: list[dict[str, Any]] = []

        def is_finished() -> bool:
            states.append(self.get_json(f"uploads/{upload_id}"))
            return states[-1]["playable"] or states[-1]["transcoding"]["state"] == "failed"

        wait_for(is_finished, 60)
        return states[-1]

    def run_task(self, **body: Any) -> dict[str, Any]:
        """Run a task and return its result once it has ended."""
        response = self.request("POST", "results", json=body)
        assert response.status_code == 202, response.text
        return self.wait_for_result(response.json()["id"])

    def wait_for_result(self, result_id: str) -> dict[str, Any]:
        """Return a result once its task has ended."""
        results: list[dict[str, Any]] = []

        def has_ended() -> bool:
            results.append(self.get_json(f"results/{result_id}"))
            return results[-1]["state"] in ("done", "failed", "cancelled")

        wait_for(has_ended, 60)
        return results[-1]


def error_code(response: httpx2.Response) -> str:
    """Return the code of an error response."""
    return str(response.json()["error"]["code"])


def files_below(folder: Path) -> list[str]:
    """Return the names of all files of visitors, whose folders may be deleted at the same time."""
    return sorted(name for _, _, names in os.walk(folder) for name in names if name != "lock")
