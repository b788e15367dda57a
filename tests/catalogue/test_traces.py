"""Traces are read in every format, and what is wrong with one is named by its line."""

import json
from pathlib import Path
from time import tzset

import pytest

from servesat.catalogue.traces import read_trace
from servesat.core.errors import CatalogueError

FORMATS = {
    "azure.csv": "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:05.4799600,310,8\n",
    "plain.csv": "time,prompt_tokens,output_tokens\n10,4808,10\n11.5,310,8\n",
    "burst.csv": "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,ChatGPT,4808,10,4818,API\n6.5,GPT-4,310,8,318,API\n",
    "mooncake.jsonl": '{"timestamp": 0, "input_length": 4808, "output_length": 10, "hash_ids": [0, 1]}\n'
    '{"timestamp": 1500, "input_length": 310, "output_length": 8, "hash_ids": [0, 7]}\n',
    "bench.json": json.dumps({"start_times": [101.5, 100.0], "input_lens": [310, 4808], "output_lens": [8, 10]}),
}  # fmt: skip


LINE = '{"timestamp": 0, "input_length": 9, "output_length": 5}\n'
"""A request of Mooncake's."""


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FORMATS[name])
    trace = read_trace(tmp_path / name)
    assert trace.arrival_s.tolist() == pytest.approx([0.0, 1.5])
    assert (trace.prompt_tokens.tolist(), trace.output_tokens.tolist()) == ([4808, 310], [10, 8])
    assert trace.requests_per_s == pytest.approx(1 / 1.5)
    assert trace.blocks == (((0, 1), (0, 7)) if name == "mooncake.jsonl" else None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,prompt_tokens,output_tokens\n2,5,5\n1,5,5\n", "line 3: time = 1 is before that of the request above"),
        ("time,prompt_tokens\n2,5\n", "no column for output_tokens among 'time', 'prompt_tokens'"),
        ("time,prompt_tokens,output_tokens\n2,-5,5\n", "line 2: prompt_tokens = '-5': expected a whole number from 1"),
        ("time,prompt_tokens,output_tokens\n2,5,0\n", "line 2: output_tokens = '0': expected a whole number from 1"),
        ("time,prompt_tokens,output_tokens\n2,5,1e12\n", "line 2: output_tokens = '1e12': expected a whole number"),
        ("time,prompt_tokens,output_tokens\nlater,5,1\n", "line 2: time = 'later': expected seconds, or a date"),
        ("time,prompt_tokens,output_tokens\ninf,5,1\n", "line 2: time = 'inf': expected a finite number"),
        ("time,prompt_tokens,output_tokens\n1,5\n", "line 2: output_tokens = None: expected a whole number of tokens"),
        ("time,prompt_tokens,output_tokens\n1,2,5,44\n", "line 2: expected 3 cells as in the header, not 4"),
        ("time,prompt_tokens,output_tokens,time\n1,2,5,9\n", "the column 'time' is written twice"),
        (
            '{"start_times": [1, 2], "input_lens": [1], "output_lens": [1, 2]}',
            "2 start_times, 1 input_lens, 2 output_lens: expected as many of each",
        ),
        (
            "Time,time,prompt_tokens,output_tokens\n1,2,5,5\n",
            "columns whose names differ in their case alone: Time, time",
        ),
        (
            "time,prompt_tokens,output_tokens\n0,5,5\n2023-11-16 18:15:46,5,5\n",
            "line 3: time = '2023-11-16 18:15:46': a date among numbers",
        ),
        ("time,prompt_tokens,output_tokens\n-1e308,5,5\n1e308,5,5\n", "line 2: time = '-1e308': expected a finite"),
        (
            '{"start_times": [1, null], "input_lens": [1, 2], "output_lens": [1, 2]}',
            "start_times.1 = None: expected seconds",
        ),
        (
            f'{LINE}{{"timestamp": true, "input_length": 9, "output_length": 5}}',
            "line 2: time = True: expected seconds",
        ),
        (
            f'{LINE}{{"timestamp": 1, "input_length": true, "output_length": 5}}',
            "line 2: input_length = True: expected",
        ),
        (
            f'{LINE}{{"timestamp": 1, "input_length": 9, "output_length": 5, "hash_ids": [true]}}',
            "line 2: prefix_ids = ",
        ),
        (f'{LINE}{{"timestamp": 500,', "line 2: '{\"timestamp\": 500,': expected a JSON object"),
        (f"{LINE}[1, 2]", "line 2: '[1, 2]': expected a JSON object"),
        (
            "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n118,GPT-4,417,0,417,API log\n",
            "line 2: response tokens = '0': expected a whole number from 1 to 100,000,000; leave out the requests that",
        ),
        ('{"start_times": 5, "input_lens": [1], "output_lens": [1]}', "start_times = 5: expected a list"),
        ("time,prompt_tokens,output_tokens\n", "has no requests"),
        ("", "is empty"),
        ('{"timestamp": 0}\nnonsense\n', "no column for prompt_tokens and output_tokens"),
        ('{"a": 1,\n"b": 2}', "expected JSON lines, or start_times, input_lens and output_lens"),
    ],
)
def test_a_faulty_trace_is_named_by_its_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(CatalogueError) as fault:
        read_trace(path)
    assert message in str(fault.value)
    assert str(fault.value).startswith(str(path))


@pytest.mark.parametrize(
    ("header", "last_s"), [("timestamp,input_length,output_length", 5.0), ("time,prompt_tokens,output_tokens", 5000.0)]
)
@pytest.mark.parametrize("ids", ["", ",hash_ids"])
def test_names_of_times_and_lengths_say_what_they_count_in(
    header: str, last_s: float, ids: str, tmp_path: Path
) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(f"{header}{ids}\n0,1000,10{ids and ',1 2'}\n5000,1000,10{ids and ',1 3'}\n")
    assert read_trace(path).arrival_s.tolist() == [0.0, last_s]


def test_times_of_mooncake_are_milliseconds_with_ids_of_blocks_or_without(tmp_path: Path) -> None:
    rows = [{"timestamp": at, "input_length": 500, "output_length": 100} for at in (0, 1000, 2000)]
    (tmp_path / "bare.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert read_trace(tmp_path / "bare.jsonl").requests_per_s == pytest.approx(1.0)
    dates = "".join(f"2026-03-29 00:00:{second}0,500,100\n" for second in range(3))
    (tmp_path / "dates.csv").write_text("timestamp,input_length,output_length\n" + dates)
    assert read_trace(tmp_path / "dates.csv").requests_per_s == pytest.approx(0.1)


def test_dates_without_a_zone_are_the_same_wherever_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 2 in the night of 29 March 2026 clocks in Berlin went on to 3; in UTC half an hour lies between all."""
    times = ("00:30", "01:30", "02:30", "03:00")
    text = "".join(f"2026-03-29 {time}:00,10,10\n" for time in times)
    for zone in ("UTC", "Europe/Berlin", "America/New_York"):
        monkeypatch.setenv("TZ", zone)
        tzset()
        path = tmp_path / f"{zone.replace('/', '-')}.csv"
        path.write_text("time,prompt_tokens,output_tokens\n" + text)
        assert read_trace(path).arrival_s.tolist() == [0, 3600, 7200, 9000]
    monkeypatch.undo()
    tzset()
