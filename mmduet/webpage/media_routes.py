"""HTTP endpoints of the live page for videos: sample clips, uploads and their previews.

A browser's player cannot send an ``Authorization`` header, so the URL of a preview contains a token of its own. It opens this
preview and nothing else. The id of an upload alone opens nothing.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse

from mmduet.errors import ConflictError, MmduetError
from mmduet.server.auth import KeyStore
from mmduet.server.endpoints import add_get_and_head
from mmduet.server.error_response import error_response
from mmduet.server.session_manager import SessionManager
from mmduet.webpage.uploads import Upload
from mmduet.webpage.video_library import VideoLibrary
from mmduet.webpage.visitors import authenticate_visitor

PRIVATE_HEADERS = {
    "Cache-Control": "private, no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}
"""Headers of files that belong to a visitor: not kept by caches, never run as a page, not embedded by other sites."""
CLIP_HEADERS = {"Cache-Control": "public, max-age=3600", "X-Content-Type-Options": "nosniff"}


def build_router(videos: VideoLibrary, manager: SessionManager, keys: KeyStore) -> APIRouter:
    """Return the endpoints, below the path of the page."""
    router = APIRouter(include_in_schema=False)
    _add_clips(router, videos)
    _add_uploads(router, videos, manager, keys)
    return router


def _add_clips(router: APIRouter, videos: VideoLibrary) -> None:
    @add_get_and_head(router, "/clips")
    async def clips() -> list[dict[str, Any]]:
        """List the sample clips."""
        return [clip.to_dict() for clip in await videos.clips.all()]

    @add_get_and_head(router, "/clips/{name}/video")
    async def clip_video(name: str) -> Response:
        """Return a clip; ranges are supported."""
        clip = await videos.clips.find(name)
        return FileResponse(clip.path, headers=CLIP_HEADERS, media_type="video/mp4")

    @add_get_and_head(router, "/clips/{name}/poster")
    async def clip_poster(name: str) -> Response:
        """Return a still of a clip as JPEG."""
        return Response(await videos.clips.poster(name), headers=CLIP_HEADERS, media_type="image/jpeg")


def _add_uploads(router: APIRouter, videos: VideoLibrary, manager: SessionManager, keys: KeyStore) -> None:
    @router.post("/uploads", status_code=201)
    async def upload(request: Request, name: Annotated[str, Query(max_length=4096)] = "video") -> Response:
        """Store the body as a video of this visitor."""
        try:
            owner = authenticate_visitor(manager, keys, request)
            manager.check_accepting(None)
            stored = await videos.receive(request, owner, name)
        except MmduetError as error:
            response = error_response(error)
            response.headers["Connection"] = "close"  # the rest of the body is not read
            return response
        return JSONResponse(describe_upload(stored), 201, {"Location": f"uploads/{stored.id}"})

    @add_get_and_head(router, "/uploads")
    async def uploads(request: Request) -> dict[str, Any]:
        """List the videos of this visitor, with the limits for uploads."""
        owner, config = authenticate_visitor(manager, keys, request), manager.config
        limits = {
            "max_bytes": config.max_upload_bytes,
            "max_seconds": config.max_upload_seconds,
            "max_uploads": config.max_uploads_per_visitor,
            "lifetime_s": config.upload_lifetime,
        }
        return {"uploads": [describe_upload(each) for each in videos.uploads.by_owner(owner)], "limits": limits}

    @add_get_and_head(router, "/uploads/{upload_id}")
    async def status(upload_id: str, request: Request) -> dict[str, Any]:
        """Describe a video of this visitor, with the progress of its preview."""
        return describe_upload(videos.uploads.find(upload_id, authenticate_visitor(manager, keys, request)))

    @add_get_and_head(router, "/uploads/{upload_id}/video")
    async def video(upload_id: str, request: Request, token: str | None = None) -> Response:
        """Return the preview; ranges are supported."""
        if token is not None:
            stored = videos.uploads.find_by_token(upload_id, token)
        else:
            stored = videos.uploads.find(upload_id, authenticate_visitor(manager, keys, request))
        videos.uploads.touch(stored)
        preview = stored.preview
        assert preview is not None
        if preview.state != "ready":
            reason = preview.message or "it is being made; try again later"
            raise ConflictError(f"the preview of {stored.name} is not available: {reason}")
        return FileResponse(preview.path, headers=PRIVATE_HEADERS, media_type=preview.media_type)

    @router.delete("/uploads/{upload_id}", status_code=204)
    async def delete(upload_id: str, request: Request) -> Response:
        """Delete a video of this visitor, with its preview and results."""
        await videos.delete(videos.uploads.find(upload_id, authenticate_visitor(manager, keys, request)))
        return Response(status_code=204)


def describe_upload(upload: Upload) -> dict[str, Any]:
    """Return an upload as JSON values; ``preview`` is relative to the page.

    ``playable`` is whether the preview can be played now. ``start_s`` is the player's time of the first frame.
    """
    video, preview = upload.video, upload.preview
    assert video is not None
    assert preview is not None
    return {
        "id": upload.id,
        "name": upload.name,
        "duration_s": round(video.duration, 3),
        "width": video.width,
        "height": video.height,
        "source": upload.source,
        "preview": f"uploads/{upload.id}/video?token={upload.token}",
        "playable": preview.state == "ready",
        "transcoding": preview.to_dict(),
        "start_s": round(preview.start, 3),
    }
