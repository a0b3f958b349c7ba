"""The official SDK, unmodified, talks to the realtime endpoint: text, pictures, its own reconnection left aside."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import openai
import pytest
from served import Served, endless_model, jpeg, serving


@pytest.fixture(scope="module")
def keyed() -> Iterator[Served]:
    with serving(endless_model(), keys="sk-test") as server:
        yield server


def client(served: Served, key: str = "sk-test") -> openai.OpenAI:
    return openai.OpenAI(api_key=key, base_url=f"{served.http}/v1", max_retries=0)


def user(*content: dict) -> dict:
    return {"type": "message", "role": "user", "content": list(content)}


def still(seed: int) -> dict:
    return {"type": "input_image", "image_url": "data:image/jpeg;base64," + base64.b64encode(jpeg(seed)).decode()}


def test_text_and_pictures_are_answered(keyed: Served) -> None:
    with client(keyed).realtime.connect(model="random:tiny") as connection:
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
        connection.conversation.item.create(item=user(still(1), still(2), {"type": "input_text", "text": "And these?"}))
        connection.response.create()
        kinds = []
        for event in connection:
            kinds.append(event.type)
            if event.type == "response.done":
                break
        assert kinds.count("input_frame.scored") == 2
        assert kinds.index("conversation.item.done") < kinds.index("response.created")


def test_an_error_arrives_as_the_sdk_knows_errors(keyed: Served) -> None:
    with client(keyed).realtime.connect(model="random:tiny") as connection:
        connection.recv()
        connection.response.cancel(event_id="mine")
        event = connection.recv()
        assert event.type == "error"
        assert (event.error.code, event.error.event_id) == ("response_cancel_not_active", "mine")
        connection.send({"type": "session.update", "session": {"type": "realtime", "tools": []}})
        assert connection.recv().error.param == "session.tools"


def test_a_wrong_key_is_refused_before_the_upgrade(keyed: Served) -> None:
    from websockets.exceptions import InvalidStatus

    with pytest.raises(InvalidStatus) as refused, client(keyed, "sk-wrong").realtime.connect(model="random:tiny"):
        pass
    assert refused.value.response.status_code == 401


def test_a_client_secret_opens_a_session_for_a_while(keyed: Served) -> None:
    secret = client(keyed).realtime.client_secrets.create(session={"type": "realtime"})
    assert secret.value.startswith("ek_")
    with client(keyed, secret.value).realtime.connect(model="random:tiny") as connection:
        assert connection.recv().type == "session.created"
    with pytest.raises(openai.AuthenticationError):
        client(keyed, "nope").realtime.client_secrets.create(session={"type": "realtime"})


def test_models_are_listed(keyed: Served) -> None:
    assert [model.id for model in client(keyed).models.list()] == ["random:tiny"]
    with pytest.raises(openai.AuthenticationError):
        client(keyed, "nope").models.list()
