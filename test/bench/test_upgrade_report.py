"""What a benchmark of an upgrade counts as lost, repeated or late, on events made by hand."""

from __future__ import annotations

import pytest

from mmduet.bench.upgrade import StreamTally, UpgradeConfig, UpgradeReport
from mmduet.errors import OptionError
from mmduet.protocol import server_events


def scored(seq: int) -> server_events.FrameScored:
    return server_events.FrameScored(
        seq=seq, pts=seq * 500_000, informative=0.5, relevance=0.5, decision="listen", age_ms=1.0
    )


def reply(
    number: int, pts: int, text: str, status: server_events.ResponseStatus = "completed"
) -> server_events.ResponseDone:
    item = server_events.Item(
        id=f"item_{number}", status="completed", role="assistant", content=({"type": "text", "text": text},)
    )
    trigger = server_events.ResponseDuet(trigger_seq=0, trigger_pts=pts, informative=0.5, relevance=0.5, forced=False)
    response = server_events.Response(
        id=f"resp_{number}", status=status, conversation_id="c", output=(item,), duet=trigger
    )
    return server_events.ResponseDone(response=response)


def tally(*events: server_events.ServerEvent, sent: int = 2) -> StreamTally:
    """Return the tally of a stream that receives ``events`` a second apart, with an upgrade in the middle."""
    result = StreamTally(sent=sent)
    go_away = server_events.GoAway(time_left_s=2.0, reason="upgrade")
    resumed = server_events.SessionResumed(session_id="s", last_consumed_client_message_index=0)
    closed = server_events.SessionClosed(reason="ended", frames={"received": sent, "scored": sent}, duration_s=1.0)
    for now, event in enumerate((scored(0), go_away, resumed, *events, closed)):
        result.on_event(event, float(now))
    return result


def test_upgrade_without_a_fault() -> None:
    dropped = server_events.FrameDropped(seq=1, pts=500_000, reason="late")
    report = UpgradeReport([tally(dropped, reply(0, 0, "A ball."), reply(1, 500_000, "A box."), scored(2), sent=3)], 0)
    values = report.to_dict()
    assert values["faults"] == []
    assert (values["frames"], values["scored"], values["dropped"], values["replies"]) == (3, 2, 1, 2)
    assert (values["gap_p50_s"], values["scoring_gap_max_s"]) == (1.0, 6.0)


@pytest.mark.parametrize(
    ("events", "fault"),
    [
        ([], "1 frames were not accounted for"),
        ([scored(1), scored(1)], "1 frames were not accounted for"),
        ([scored(1), reply(0, 0, "A ball."), reply(0, 0, "A ball.")], "replies came twice"),
        ([scored(1), reply(0, 0, "A ball."), reply(1, 0, "A box.")], "1 replies came twice"),
        (
            [scored(1), reply(0, 0, "A ball."), reply(1, 500_000, "A box."), reply(2, 900_000, "A ball.")],
            "1 replies came twice",
        ),
    ],
)
def test_faults_are_reported(events: list[server_events.ServerEvent], fault: str) -> None:
    (found,) = UpgradeReport([tally(*events)], 0).faults
    assert found.endswith(fault)


def test_reply_that_was_cut_and_generated_again_came_once() -> None:
    stream = tally(scored(1), reply(0, 0, "A b", "cancelled"), reply(1, 0, "A ball."))
    assert (stream.duplicate_replies, stream.interrupted) == (0, 1)


def test_late_or_lost_streams_are_faults() -> None:
    lost = StreamTally(loss="ConnectionLostError()")
    assert UpgradeReport([lost], 1).faults == [
        "1 streams were not resumed within 5 s",
        "streams were lost: ConnectionLostError()",
        "the old server ended with status 1",
    ]


def test_values_out_of_range_are_rejected() -> None:
    with pytest.raises(OptionError, match="streams must be at least 1"):
        UpgradeConfig(0, 2.0, 5.0, [], "What?")
