"""CSV that can be opened: each value comes back, and none is a formula."""

import csv
import io

import pytest

from shared import spreadsheets


def test_values_come_back_as_they_were() -> None:
    rows = [["Contoso, Ltd", 'says "hello"', "two\nlines", 3, None]]
    assert list(csv.reader(io.StringIO(spreadsheets.lines(rows)))) == [
        ["Contoso, Ltd", 'says "hello"', "two\nlines", "3", ""]
    ]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", " ="])
def test_a_text_that_a_spreadsheet_would_run_is_a_text(start: str) -> None:
    ((cell,),) = csv.reader(io.StringIO(spreadsheets.lines([[f"{start}HYPERLINK(1)"]]), newline=""))
    assert cell == f"'{start}HYPERLINK(1)"


def test_numbers_stay_numbers() -> None:
    assert spreadsheets.lines([[-3, "a-b"]]) == "-3,a-b\r\n"
