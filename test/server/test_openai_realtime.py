"""The realtime endpoint through the official OpenAI SDK: text and images, without the SDK's own reconnection."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import openai
import pytest
from live_server import RunningServer, endless_model, jpeg, run_test_server


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with run_test_server(endless_model(), keys="sk-test") as server:
        yield server


def openai_client(server: RunningServer, key: str = "sk-test") -> openai.OpenAI:
    return openai.OpenAI(api_key=key, base_url=f"{server.http}/v1", max_retries=0)


def user(*content: dict) -> dict:
    return {"type": "message", "role": "user", "content": list(content)}


def image(seed: int) -> dict:
    return {"type": "input_image", "image_url": "data:image/jpeg;base64," + base64.b64encode(jpeg(seed)).decode()}


def test_text_and_images_are_answered(server: RunningServer) -> None:
    with openai_client(server).realtime.connect(model="random:tiny") as connection:
        assert connection.recv().type == "session.created"
        connection.session.update(
            session={
                "type": "realtime",
                "output_modalities": ["text"],
                "max_output_tokens": 8,
                "duet": {"speak": {"policy": "never"}},
            }
        )
        updated = connection.recv()
        assert updated.type == "session.updated"
        assert updated.session.max_output_tokens == 8
        connection.conversation.item.create(item=user({"type": "input_text", "text": "Hello?"}))
        connection.response.create(response={"metadata": {"mine": "yes"}})
        events = []
        for event in connection:
            events.append(event)
            if event.type == "response.done":
                break
        text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
        done = events[-1].response
        assert text
        assert done.output[0].content[0].text == text
        assert done.status == "incomplete"
        assert done.status_details.reason == "max_output_tokens"
        assert done.metadata == {"mine": "yes"}
        assert done.usage.output_tokens == 8
        connection.conversation.item.create(item=user(image(1), image(2), {"type": "input_text", "text": "And these?"}))
        connection.response.create()
        kinds = []
        for event in connection:
            kinds.append(event.type)
            if event.type == "response.done":
                break
        assert kinds.count("input_frame.scored") == 2
        assert kinds.index("conversation.item.done") < kinds.index("response.created")


def test_errors_have_the_sdk_error_shape(server: RunningServer) -> None:
    with openai_client(server).realtime.connect(model="random:tiny") as connection:
        connection.recv()
        connection.response.cancel(event_id="mine")
        event = connection.recv()
        assert event.type == "error"
        assert (event.error.code, event.error.event_id) == ("response_cancel_not_active", "mine")
        connection.send({"type": "session.update", "session": {"type": "realtime", "tools": [{"type": "function"}]}})
        assert connection.recv().error.param == "session.tools"


def test_wrong_key_is_rejected_before_the_upgrade(server: RunningServer) -> None:
    from websockets.exceptions import InvalidStatus

    with (
        pytest.raises(InvalidStatus) as rejected,
        openai_client(server, "sk-wrong").realtime.connect(model="random:tiny"),
    ):
        pass
    assert rejected.value.response.status_code == 401


def test_client_secret_opens_a_session(server: RunningServer) -> None:
    secret = openai_client(server).realtime.client_secrets.create(session={"type": "realtime"})
    assert secret.value.startswith("ek_")
    with openai_client(server, secret.value).realtime.connect(model="random:tiny") as connection:
        assert connection.recv().type == "session.created"
    with pytest.raises(openai.AuthenticationError):
        openai_client(server, "nope").realtime.client_secrets.create(session={"type": "realtime"})


def test_models_are_listed(server: RunningServer) -> None:
    assert [model.id for model in openai_client(server).models.list()] == ["random:tiny"]
    with pytest.raises(openai.AuthenticationError):
        openai_client(server, "nope").models.list()
