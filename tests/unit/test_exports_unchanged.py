"""What is noted of the data that an audience has, and when a run may be skipped for it; over documents in memory."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.exports.model import Export, LeftOut, Status
from shared.exports.unchanged import forget_other_data, remember_success, unchanged_since
from shared.segments.formats import PinnedSegment
from tests.unit.exports_in_memory import NOW, ExportsInMemory

LEFT_OUT = LeftOut(until=NOW, memory="v1")


@pytest.fixture
def exports() -> ExportsInMemory:
    return ExportsInMemory()


def export_of(
    exports: ExportsInMemory, status: Status = Status.SUCCESSFUL, segment: str = "Gold", configuration: str = "c1"
) -> Export:
    """An export of a segment that ended as this."""
    made = exports.add(timedelta(hours=1), status=status)

    def tell(export: Export) -> None:
        export.sources = [PinnedSegment(name=segment, kind="csv", files=())]
        export.configuration = configuration

    changed = exports.store.change(made, tell)
    assert changed is not None
    return changed


def since(exports: ExportsInMemory, export: Export, configuration: str = "c1", *, kept_out: bool = True) -> object:
    return unchanged_since(exports.store, export, configuration, lambda left_out: kept_out and left_out == LEFT_OUT)


@pytest.mark.parametrize("status", [Status.SUCCESSFUL, Status.COMPLETED_WITH_ERRORS])
def test_the_same_data_with_the_same_configuration_need_not_be_sent(exports: ExportsInMemory, status: Status) -> None:
    last = export_of(exports, status)
    assert since(exports, last) is None, "nobody knows yet"
    remember_success(exports.store, last, None)
    assert since(exports, export_of(exports)) == last.ended_at
    assert since(exports, export_of(exports, segment="Silver")) is None
    assert since(exports, export_of(exports), "c2") is None


@pytest.mark.parametrize("status", [Status.CANCELED, Status.FAILED, Status.FINISHING])
def test_who_was_stopped_after_that_was_noted_has_not_succeeded(exports: ExportsInMemory, status: Status) -> None:
    """Finish died before the last status, and when it ran again somebody had canceled."""
    remember_success(exports.store, export_of(exports, status), None)
    assert since(exports, export_of(exports)) is None


def test_it_depends_on_what_keeps_out_those_who_were_left_out(exports: ExportsInMemory) -> None:
    last = export_of(exports)
    remember_success(exports.store, last, LEFT_OUT)
    assert since(exports, last) == last.ended_at
    assert since(exports, last, kept_out=False) is None


def test_other_data_that_are_sent_make_it_unknown(exports: ExportsInMemory) -> None:
    last = export_of(exports)
    remember_success(exports.store, last, None)
    forget_other_data(exports.store, export_of(exports))
    assert since(exports, last) == last.ended_at
    forget_other_data(exports.store, export_of(exports, configuration="c2"))
    assert since(exports, last) is None
