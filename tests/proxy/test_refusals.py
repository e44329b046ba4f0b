from __future__ import annotations

import pytest
from lightspeed_protocol.control_messages import DisconnectReason
from lightspeed_protocol.extensions import (
    MOST_TEXT_BYTES,
    RefusalCode,
    decode_refusal,
)
from lightspeed_proxy.refusals import (
    NEW_SESSIONS,
    RESULT,
    RESULTS,
    RESUMED,
    TEXTS,
    RefusedRegistration,
    RegistrationCounters,
    refusal,
)

REASONS = {
    RefusalCode.UNKNOWN_TOKEN: DisconnectReason.AUTH_FAILURE,
    RefusalCode.EXPIRED: DisconnectReason.AUTH_FAILURE,
    RefusalCode.REVOKED: DisconnectReason.AUTH_FAILURE,
    RefusalCode.TOO_MANY_SESSIONS: DisconnectReason.RATE_LIMITED,
    RefusalCode.NODE_FULL: DisconnectReason.RATE_LIMITED,
    RefusalCode.DRAINING: DisconnectReason.SERVER_SHUTDOWN,
    RefusalCode.NO_COMMON_VERSION: DisconnectReason.NORMAL,
    RefusalCode.NO_CREDENTIAL: DisconnectReason.AUTH_FAILURE,
    RefusalCode.SESSION_ENDED: DisconnectReason.AUTH_FAILURE,
    RefusalCode.TOO_OFTEN: DisconnectReason.RATE_LIMITED,
}


@pytest.mark.parametrize("code", RefusalCode)
def test_every_code_has_its_reason_and_one_whole_line(code: RefusalCode) -> None:
    message = RefusedRegistration(code).disconnect
    found = decode_refusal(message.extensions)
    assert (message.reason, found.code) == (REASONS[code], code)
    assert found.text == TEXTS[code]
    assert len(TEXTS[code].encode()) <= MOST_TEXT_BYTES
    assert TEXTS[code].isprintable()


def test_a_text_may_be_given() -> None:
    assert decode_refusal(refusal(RefusalCode.TOO_OFTEN, "later").extensions).text == "later"


@pytest.mark.parametrize("text", [NEW_SESSIONS, RESUMED])
def test_what_is_paced_is_said_in_one_whole_line(text: str) -> None:
    found = decode_refusal(RefusedRegistration(RefusalCode.TOO_OFTEN, text).disconnect.extensions)
    assert (found.code, found.text) == (RefusalCode.TOO_OFTEN, text)
    assert text.isprintable()


def test_whatever_a_register_is_refused_with_is_counted_by_itself() -> None:
    counted = {RESULT[code] for code in RefusalCode if code is not RefusalCode.SESSION_ENDED}
    assert len(counted) == len(RefusalCode) - 1
    assert counted | {"granted", "resumed"} == set(RESULTS) == set(RegistrationCounters().results)
