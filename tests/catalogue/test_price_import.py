import csv
import io
import os
from collections import defaultdict
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servesat import CatalogueError, Spec
from servesat.catalogue.load import load_price_book
from servesat.catalogue.price_book import PriceBook
from servesat.catalogue.price_import import ImportedPrices, book_text, import_prices
from tests.strategies import examples

SKYPILOT = (
    "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,Region,AvailabilityZone"
)
GOOGLE = "InstanceType,vCPUs,MemoryGiB,AcceleratorName,AcceleratorCount,GpuInfo,Region,AvailabilityZone,Price,SpotPrice"
GPUHUNT = "instance_name,location,price,cpu,memory,gpu_count,gpu_name,gpu_memory,spot,disk_size,gpu_vendor,flags"
OWN = "instance,chip,chips,usd_per_instance_hour"
EVERY_COLUMN = f"{OWN},cloud,region,purchase,term,network_bytes_per_s,link_chips,note,as_of"


def imported(tmp_path: Path, header: str, *rows: str, name: str = "aws/vms.csv", **options: object) -> ImportedPrices:
    """The import of a list with these rows, whose note of its file's date is 28 November 2026."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n")
    noon = 1_795_867_200
    os.utime(path, (noon, noon))
    return import_prices(path, **options)  # type: ignore[arg-type]


def priced(book: PriceBook) -> dict[tuple[str | None, ...], float]:
    """What instances, and chips that are sold by the chip, cost an hour, by cloud, region and purchase."""
    return {
        (price.cloud, price.instance or chip, price.region, price.purchase): price.usd_per_instance_hour
        or price.usd_per_chip_hour
        for chip, prices in book.prices.items()
        for price in prices
    }


def left_out(result: ImportedPrices) -> dict[tuple[str, str], int]:
    return {(reason.name, name): count for reason, name, count in result.left_out}


def test_a_catalogue_of_skypilot_becomes_offers_by_region(tmp_path: Path) -> None:
    gpus = "\"{'Gpus': [{'Count': 8, 'MemoryInfo': {'SizeInMiB': 40960}}], 'TotalGpuMemoryInMiB': 327680}\""
    result = imported(
        tmp_path,
        SKYPILOT,
        "c3.large,,,2.0,3.75,,0.105,0.0426,us-east-1,use1-az2",
        f"p4d.24xlarge,A100,8.0,96.0,1152.0,{gpus},21.95764,,us-east-1,use1-az4",
        "p5.48xlarge,H100,8.0,192.0,2048.0,,55.04,55.04,us-east-1,use1-az1",
        "p5.48xlarge,H100,8.0,192.0,2048.0,,55.04,19.2531,us-east-1,use1-az2",
        "p5.48xlarge,H100,8.0,192.0,2048.0,,55.04,11.2543,us-east-2,use2-az1",
        "p5.48xlarge,H100,8.0,192.0,2048.0,,68.8,,us-west-1,usw1-az1",
        "p2.xlarge,K80,1.0,4.0,61.0,,0.9,0.27,us-east-1,use1-az1",
        "gr6f.4xlarge,L4,0.5,16.0,128.0,,1.066,0.3056,us-east-2,use2-az2",
    )
    book = result.book
    assert (book.name, book.checked, result.kind) == ("aws offers from vms.csv", date(2026, 11, 28), "SkyPilot")
    assert {name: (one.chip, one.chips, one.source) for name, one in book.instances.items()} == {
        "p4d.24xlarge": ("a100-40gb", 8, "vms.csv"), "p5.48xlarge": ("h100-sxm", 8, "vms.csv"),
    }  # fmt: skip
    assert priced(book) == {
        ("aws", "p4d.24xlarge", "us-east-1", "on_demand"): 21.95764,
        ("aws", "p5.48xlarge", "us-east-1", "on_demand"): 55.04,
        ("aws", "p5.48xlarge", "us-east-2", "on_demand"): 55.04,
        ("aws", "p5.48xlarge", "us-west-1", "on_demand"): 68.8,
        ("aws", "p5.48xlarge", "us-east-1", "spot"): 55.04,
        ("aws", "p5.48xlarge", "us-east-2", "spot"): 11.2543,
    }
    on_spot = [price for price in book.prices["h100-sxm"] if price.purchase == "spot"]
    lowest = {price.region: price.lowest_usd_per_instance_hour for price in on_spot}
    assert lowest == {"us-east-1": 19.2531, "us-east-2": None}
    assert {price.note for price in on_spot} == {None}
    on_demand = [offer for offer in book.offers if offer.instance == "p5.48xlarge" and offer.purchase == "on_demand"]
    assert [offer.usd_per_instance_hour for offer in on_demand] == [
        {"us-east-1": 55.04, "us-east-2": 55.04, "us-west-1": 68.8}
    ]
    assert result.notes == [
        "left out 1 row (no accelerator)",
        "left out 1 row (the number of accelerators is not a whole number of at least 1): L4 (1)",
        "left out 1 row (an accelerator that is not certainly a chip of the catalogue): K80 (1)",
    ]


def test_slices_of_tpus_are_sold_by_the_chip(tmp_path: Path) -> None:
    result = imported(
        tmp_path,
        GOOGLE,
        "a2-highgpu-1g,12.0,85.0,,,,asia-northeast1,asia-northeast1-a,0.94803,0.41783",
        ",,,H100,8,{'Gpus': [{'MemoryInfo': {'SizeInMiB': 81920}}]},us-central1,us-central1-a,33.60609,23.9408",
        ",,,tpu-v5litepod-8,1,tpu-v5litepod-8,us-west4,us-west4-a,9.6,3.84",
        ",,,tpu-v6e-8,1,tpu-v6e-8,us-central1,us-central1-a,21.6,4.35366",
        ",,,tpu-v6e-256,1,tpu-v6e-256,us-central1,us-central1-b,691.2,139.31725",
        ",,,tpu-v6e-8,1,tpu-v6e-8,us-east5,us-east5-a,21.6,9.72",
        ",,,tpu-v6e-8,1,tpu-v6e-8,us-east5,us-east5-b,21.6,8.0",
        "TPU-VM,,,tpu-v5p-8,1,tpu-v5p-8,us-east1,us-east1-d,16.8,3.3428",
        ",,,tpu-v2-8,1,tpu-v2-8,us-central1,us-central1-b,4.5,1.35",
        name="gcp/vms.csv",
    )
    assert priced(result.book) == pytest.approx(
        {
            ("gcp", "tpu-v5e", "us-west4", "on_demand"): 1.2,
            ("gcp", "tpu-v5e", "us-west4", "spot"): 0.48,
            ("gcp", "tpu-v5p", "us-east1", "on_demand"): 4.2,
            ("gcp", "tpu-v5p", "us-east1", "spot"): 0.8357,
            ("gcp", "tpu-v6e", "us-central1", "on_demand"): 2.7,
            ("gcp", "tpu-v6e", "us-central1", "spot"): 4.35366 / 8,
            ("gcp", "tpu-v6e", "us-east5", "on_demand"): 2.7,
            ("gcp", "tpu-v6e", "us-east5", "spot"): 1.215,
        }
    )
    notes = {(price.region, price.purchase): price.note for price in result.book.prices["tpu-v6e"] if price.note}
    assert notes == {("us-east5", "spot"): "highest zone or slice; the lowest was 1"}
    assert not result.book.instances
    assert left_out(result) == {("NO_ACCELERATOR", ""): 1, ("ALONE", "H100"): 1, ("UNMAPPED", "tpu-v2-8"): 1}


def test_prices_that_are_none_are_left_out_and_counted(tmp_path: Path) -> None:
    result = imported(
        tmp_path,
        SKYPILOT,
        "p5.48xlarge,H100,8,192,2048,,,,us-east-1,a",
        "p5.48xlarge,H100,8,192,2048,,0,0.00,us-east-1,a",
        "p5.48xlarge,H100,8,192,2048,,nan,inf,us-east-1,a",
        "p5.48xlarge,H100,8,192,2048,,5600,5599,us-east-1,a",
        "p5.48xlarge,H100,0,192,2048,,55.04,,us-east-1,a",
        "p5.48xlarge,H100,,192,2048,,55.04,,us-east-1,a",
        ",tpu-v6e-8,1,,,,700.0,700.0,asia-east1,asia-east1-c",
        ",tpu-v6e-256,1,,,,700.0,700.0,us-central2,us-central2-b",
        ",tpu-v5p-1,1,,,,2.1,,us-central2,us-central2-b",
    )
    assert priced(result.book) == {("aws", "p5.48xlarge", "us-east-1", "spot"): 5599}
    assert left_out(result) == {
        ("NO_COUNT", "H100"): 2, ("NO_COUNT", "tpu-v5p-1"): 1, ("NO_PRICE", "H100"): 1, ("ZERO", "H100"): 2,
        ("NOT_FINITE", "H100"): 2, ("PLACEHOLDER", "H100"): 1, ("PLACEHOLDER", "tpu-v6e-8"): 2,
        ("PLACEHOLDER", "tpu-v6e-256"): 2,
    }  # fmt: skip
    assert "left out 5 prices (SkyPilot's placeholder of $700, or as much a chip)" in "\n".join(result.notes)
    with pytest.raises(CatalogueError, match=r"no row is an offer\n.*left out 1 row \(no accelerator\)"):
        imported(tmp_path, SKYPILOT, "c3.large,,,2.0,3.75,,0.105,0.0426,us-east-1,use1-az2")


def test_the_memory_that_skypilot_states_is_that_of_one_or_of_all(tmp_path: Path) -> None:
    def row(count: int, one: int, every: int) -> str:
        info = f"\"{{'Gpus': [{{'MemoryInfo': {{'SizeInMiB': {one}}}}}], 'TotalGpuMemoryInMiB': {every}}}\""
        return f"{count}x-A100_SXM4,A100,{count},32,64,{info},{count},,us,"

    result = imported(
        tmp_path, SKYPILOT, row(1, 40960, 40960), row(2, 81920, 163840), row(4, 163840, 163840), row(8, 80, 640)
    )
    assert {name: one.chip for name, one in result.book.instances.items()} == {
        "1x-A100_SXM4": "a100-40gb", "2x-A100_SXM4": "a100-80gb",
    }  # fmt: skip
    assert left_out(result) == {("UNMAPPED", "A100"): 2}


def test_the_cloud_is_given_or_the_folder_of_skypilot(tmp_path: Path) -> None:
    row = "gpu_8x_h100_sxm5,H100,8,208,1800,,31.92,,us-south-1,"
    assert imported(tmp_path, SKYPILOT, row, name="lambda/vms.csv").book.clouds == {"lambda"}
    assert imported(tmp_path, SKYPILOT, row, name="x/vms.csv", cloud="mine").book.clouds == {"mine"}
    with pytest.raises(CatalogueError, match=r"--cloud is missing: its folder 'x' is none of SkyPilot's clouds"):
        imported(tmp_path, SKYPILOT, row, name="x/vms.csv")
    without_zone = "SpotPrice,Region,InstanceType,AcceleratorName,AcceleratorCount,Price,Arch"
    result = imported(tmp_path, without_zone, ",FIN-02,1H100.80S.32V,H100,1.0,2.29,x86", name="verda/vms.csv")
    assert priced(result.book) == {("verda", "1H100.80S.32V", "FIN-02", "on_demand"): 2.29}


def test_a_catalogue_of_gpuhunt_becomes_offers(tmp_path: Path) -> None:
    result = imported(
        tmp_path,
        GPUHUNT,
        "a3-highgpu-8g,us-central1-a,88.49,208,1872,8,H100,80.0,False,6000,nvidia,",
        "a3-highgpu-8g,us-central1-b,26.2,208,1872,8,H100,80.0,True,6000,nvidia,",
        "a3-highgpu-8g,us-central1-c,25.2,208,1872,8,H100,80.0,true,6000,nvidia,",
        "a2-ultragpu-1g,europe-west4-a,6.2,12,170,1,A100,80.0,False,,nvidia,",
        "a4-highgpu-8g,us-central1-b,70,224,3968,8,B200,180,False,,nvidia,gcp-a4 gcp-dws-calendar-mode",
        "n1-standard-8,us-west1-a,0.73,8,30,1,T4,16,False,,nvidia,",
        "n1-standard-8,us-west1-a,1.08,8,30,2,T4,16,False,,nvidia,",
        "v5litepod-4,us-west1-c,4.8,112,192,1,v5litepod-4,64,False,,google,",
        "n1-standard-8,us-west1-a,1,8,30,1,P100,16,False,,nvidia,",
        "e2-medium,us-west1-a,0.03,2,4,0,,,False,,,",
        name="gcp.csv",
    )
    assert (result.book.name, result.kind) == ("gcp offers from gcp.csv", "gpuhunt")
    assert priced(result.book) == {
        ("gcp", "a3-highgpu-8g", "us-central1", "on_demand"): 88.49,
        ("gcp", "a3-highgpu-8g", "us-central1", "spot"): 26.2,
        ("gcp", "a2-ultragpu-1g", "europe-west4", "on_demand"): 6.2,
        ("gcp", "n1-standard-8 (gcp, 1 x t4)", "us-west1", "on_demand"): 0.73,
        ("gcp", "n1-standard-8 (gcp, 2 x t4)", "us-west1", "on_demand"): 1.08,
        ("gcp", "tpu-v5e", "us-west1", "on_demand"): 1.2,
    }
    assert {price.lowest_usd_per_instance_hour for price in result.book.prices["h100-sxm"]} == {None, 25.2}
    assert left_out(result) == {
        ("NO_ACCELERATOR", ""): 1, ("UNMAPPED", "P100"): 1, ("CONDITIONS", "gcp-dws-calendar-mode"): 1,
    }  # fmt: skip
    old = "provider,instance_name,location,price,gpu_count,gpu_name,spot"
    several = imported(
        tmp_path, old, "aws,p5.48xlarge,us-east-1,55.04,8,H100,False", ",g6.xlarge,us-east-1,0.8048,1,L4,False",
        name="all.csv", cloud="mine",
    )  # fmt: skip
    assert several.book.clouds == {"aws", "mine"}
    assert several.book.name == "aws, mine offers from all.csv"


def test_a_list_of_ones_own_states_everything_that_an_offer_has(tmp_path: Path) -> None:
    result = imported(
        tmp_path,
        EVERY_COLUMN,
        "box,h100-sxm,8,20,mine,eu,,,50e9,72,negotiated,2026-10-01",
        "box,h100-sxm,8,16,mine,eu,reserved,1 year,,,,",
        "box,h100-sxm,8,24,,,,,,,,",
        ",tpu-v5e,8,9.6,mine,us,spot,,,,,",
        name="prices.csv",
        cloud="other",
        checked=date(2026, 9, 30),
    )
    assert (result.book.name, result.book.checked) == ("mine, other offers from prices.csv", date(2026, 9, 30))
    assert result.book.instances["box (mine, 8 x h100-sxm)"].network_bytes_per_s == 50e9
    first = next(price for price in result.book.prices["h100-sxm"] if price.region and price.purchase == "on_demand")
    assert (first.link_chips, first.note, first.as_of, first.usd_per_chip_hour) == (
        72, "negotiated", date(2026, 10, 1), 2.5,
    )  # fmt: skip
    assert {price.term for price in result.book.prices["h100-sxm"]} == {None, "1 year"}
    assert priced(result.book)["other", "box (other, 8 x h100-sxm)", None, "on_demand"] == 24
    assert priced(result.book)["mine", "tpu-v5e", "us", "spot"] == pytest.approx(1.2)


def test_a_spec_is_priced_by_the_book(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(imported(tmp_path, f"\ufeff{OWN}", "box,h100-sxm,8,20", name="mine.csv").text)
    spec = Spec.load(
        {
            "cost_model": "ideal",
            "model": "llama-3-8b",
            "workload": {"context_tokens": 8192},
            "price_book": str(path),
            "search": {},
        }
    )
    assert [chip.id for chip in spec.chips] == ["h100-sxm"]


@pytest.mark.parametrize(
    ("header", "row", "complaint"),
    [
        (SKYPILOT, "p5,H100,eight,1,1,,5,,r,z", "AcceleratorCount = 'eight': expected a number"),
        (SKYPILOT, "p5.48xlarge,H100,8,1,1,,$5,,r,z", "Price = '$5': expected a number"),
        (SKYPILOT, "p5.48xlarge,H100,8,1,1,,-5,,r,z", "Price = '-5': expected at least 1e-09 a chip, and at most 1e"),
        (SKYPILOT, "p5.48xlarge,H100,8,1,1,,1e10,,r,z", "Price = '1e10': expected at least 1e-09 a chip"),
        (SKYPILOT, "p5.48xlarge,H100,8,1,1,,5,,r", "expected 10 cells as in the header, not 9"),
        (SKYPILOT, f"p5.48xlarge,H100,8,1,1,,5,,{'r' * 201},z", "expected at most 200 characters"),
        (GPUHUNT, "p5.48xlarge,r,5,1,1,8,H100,80,maybe,,,", "spot = 'maybe': expected True or False"),
        (EVERY_COLUMN, "box,h100,8,5,,,,,,,,", "chip = 'h100': did you mean 'h100-nvl' or 'h100-pcie' or 'h100-sxm'"),
        (EVERY_COLUMN, "box,h100-sxm,8,5,,,rented,,,,,", "purchase = 'rented': expected one of on_demand, spot"),
        (EVERY_COLUMN, "box,h100-sxm,8,5,,,,,0.5,,,", "network_bytes_per_s = '0.5': expected at least 1"),
        (EVERY_COLUMN, "box,h100-sxm,8,5,,,,,,1.5,,", "link_chips = '1.5': expected a whole number of at least 1"),
        (EVERY_COLUMN, "box,h100-sxm,8,5,,,,,,,,May", "as_of = 'May': expected a date such as 2026-11-28"),
        (EVERY_COLUMN, ",h100-sxm,8,5,,,,,5e9,,,", "network_bytes_per_s = '5e9': expected none without an instance"),
        (EVERY_COLUMN, "box,h100-sxm,8,5,,,,,,,,\nbox,h100-sxm,8,6,,,,,,,,2026-01-01",
         "line 3: usd_per_instance_hour = '6': expected 5.0, as an earlier row says of the same offer"),
        (EVERY_COLUMN, "box,h100-sxm,8,5,,,,,5e9,,,\nbox,h100-sxm,8,6,,,spot,,6e9,,,",
         "line 3: network_bytes_per_s = '6e9': expected 5000000000.0, as an earlier row says of the same instance"),
        (EVERY_COLUMN, ",h100-sxm,8,16,,,,,,,,\n,h100-sxm,1,5,,,,,,,,",
         "line 3: usd_per_instance_hour = '5': expected 2, 1 times the price per chip of an earlier row; name the"),
    ],
)  # fmt: skip
def test_a_malformed_row_is_named_by_line_column_and_value(
    tmp_path: Path, header: str, row: str, complaint: str
) -> None:
    with pytest.raises(CatalogueError) as error:
        imported(tmp_path, header, row)
    assert complaint in str(error.value)
    assert str(error.value).startswith(f"{tmp_path}/aws/vms.csv: line ")


def test_prices_of_a_chip_may_be_rounded_to_cents(tmp_path: Path) -> None:
    rows = [",h100-sxm,1,1.1", ",h100-sxm,3,3.3", ",l4,1,3.33", ",l4,3,10"]
    assert imported(tmp_path, OWN, *rows).prices == 2


def test_malformed_rows_beyond_ten_are_counted(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError) as error:
        imported(tmp_path, OWN, *(["box,h100-sxm,8,x"] * 25))
    lines = str(error.value).splitlines()
    assert (len(lines), lines[-1]) == (11, f"{tmp_path}/aws/vms.csv: 15 more faults")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "its header '' is of no price list; expected the columns of SkyPilot: InstanceType,"),
        ("a;b\n1;2\n", "expected cells separated by commas, not by ';'"),
        ("a\tb\n1\t2\n", "expected cells separated by commas, not by '\\t'"),
        ("a,b\n1,2\n", "gpuhunt: instance_name,location,price,gpu_count,gpu_name,spot; own: instance,chip,chips,"),
        (f"{OWN},regoin\nbox,h100-sxm,8,20,eu\n", "unknown column 'regoin'; did you mean 'region'?"),
        (f"{OWN},chip\nbox,h100-sxm,8,20,l4\n", "the column 'chip' is written twice"),
        (f'{OWN}\n"box,h100-sxm,8,20\n', "line 2: malformed CSV: unexpected end of data"),
        (f"{OWN}\nbox,{'x' * 200_000},8,20\n", "malformed CSV: field larger than field limit"),
    ],
)
def test_what_is_no_price_list_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "list.csv"
    path.write_text(text)
    with pytest.raises(CatalogueError) as error:
        import_prices(path)
    assert complaint in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("limit", "value", "complaint"),
    [
        ("price_lists.MAX_LIST_BYTES", 100, "expected at most 100 bytes"),
        ("price_import.MAX_PRICES", 8, "expected at most 8 prices"),
        ("price_import.MAX_BOOK_BYTES", 99, r"its price book would take \d+ bytes, of at most 99"),
    ],
)
def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, complaint: str) -> None:
    monkeypatch.setattr(f"servesat.catalogue.{limit}", value)
    with pytest.raises(CatalogueError, match=complaint):
        imported(tmp_path, f"{OWN},region", *(f"box,h100-sxm,8,20,region-{n}" for n in range(9)))


def test_a_large_book_is_read_back(tmp_path: Path) -> None:
    rows = (f"box-{n},h100-sxm,8,{20 + n},{'r' * 150}-{n}" for n in range(4000))
    path = tmp_path / "mine.toml"
    path.write_text(imported(tmp_path, f"{OWN},region", *rows, name="mine.csv").text)
    assert path.stat().st_size > 1_000_000
    assert len(load_price_book(str(path)).prices["h100-sxm"]) == 4000


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).map(str.strip).filter(bool)
OFFERS = st.fixed_dictionaries(
    {
        "instance": st.sampled_from(["", "box", "p5.48xlarge"]) | NAMES,
        "chip": st.sampled_from(["h100-sxm", "tpu-v5e", "l4"]),
        "chips": st.integers(1, 16).map(str),
        "usd_per_instance_hour": st.floats(1e-6, 1e6).map(str),
        "cloud": st.sampled_from(["", "aws"]) | NAMES,
        "region": st.sampled_from(["", "us", "eu"]) | NAMES,
        "purchase": st.sampled_from(["", "on_demand", "spot", "reserved"]),
        "term": st.sampled_from(["", "1 year"]),
        "note": st.just("") | NAMES,
        "as_of": st.sampled_from(["", "2026-01-31"]),
    }
)


def written(path: Path, rows: list[dict[str, str]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue(), newline="")


@examples(60)
@given(
    st.lists(OFFERS, min_size=1, max_size=12, unique_by=lambda row: tuple(row[key] for key in row if key[:3] != "usd"))
)
def test_a_book_is_read_as_it_is_written(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]]) -> None:
    folder = tmp_path_factory.mktemp("lists")
    source, target = folder / "list.csv", folder / "book.toml"
    written(source, rows)
    try:
        result = import_prices(source)
    except CatalogueError as error:
        said = str(error)
        assert "as an earlier row says of the same offer" in said or "is listed twice" in said
        return
    assert all(character.isprintable() or character == "\n" for character in result.text)
    target.write_text(result.text)
    book = load_price_book(str(target))
    assert book == result.book.model_copy(update={"id": "book"})
    assert book_text(book) == result.text
    found = [(chip, price) for chip, prices in book.prices.items() for price in prices]
    for row in rows:
        chips = int(row["chips"])
        alike = [
            price for chip, price in found
            if (chip, price.cloud or "", price.region or "", price.term or "", price.purchase)
            == (row["chip"], row["cloud"], row["region"], row["term"], row["purchase"] or "on_demand")
            and (price.instance or "").startswith(row["instance"])
            and price.instance_chips == (chips if row["instance"] else None)
        ]  # fmt: skip
        usd = float(row["usd_per_instance_hour"]) / chips
        assert any(price.usd_per_chip_hour >= usd * (1 - 1e-12) for price in alike)


@examples(100)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["p5.48xlarge", "p5.4xlarge", "g6.xlarge"]), st.sampled_from(["us", "eu"]),
            st.integers(0, 5), st.integers(0, 5),
        ),
        min_size=1,
    )
)  # fmt: skip
def test_the_highest_zone_of_each_region_is_taken(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, int, int]]
) -> None:
    machines = {"p5.48xlarge": ("H100", 8), "p5.4xlarge": ("H100", 1), "g6.xlarge": ("L4", 1)}
    highest: dict[tuple[str | None, ...], float] = defaultdict(float)
    for instance, region, on_demand, spot in rows:
        for purchase, usd in (("on_demand", on_demand), ("spot", spot)):
            highest["aws", instance, region, purchase] = max(highest["aws", instance, region, purchase], usd)
    expected = {key: usd for key, usd in highest.items() if usd}
    lines = [
        f"{instance},{machines[instance][0]},{machines[instance][1]},,,,{on_demand},{spot},{region},zone-{position}"
        for position, (instance, region, on_demand, spot) in enumerate(rows)
    ]
    folder = tmp_path_factory.mktemp("lists")
    if expected:
        result = imported(folder, SKYPILOT, *lines)
        assert priced(result.book) == expected
        assert sum(left_out(result).values()) == sum((not on_demand) + (not spot) for _, _, on_demand, spot in rows)
    else:
        with pytest.raises(CatalogueError, match="no row is an offer"):
            imported(folder, SKYPILOT, *lines)


CELLS = st.sampled_from(
    [
        "",
        "nan",
        "-1",
        "0",
        "8",
        "8.0",
        "1e400",
        "700",
        "H100",
        "tpu-v5p-8",
        "p5.48xlarge",
        "True",
        "h100-sxm",
        "\x1b[2J",
    ]
) | st.text(max_size=8)


@examples(200)
@given(
    st.sampled_from([SKYPILOT, GPUHUNT, EVERY_COLUMN, "provider," + GPUHUNT]),
    st.lists(st.lists(CELLS, min_size=9, max_size=13), max_size=6),
    st.binary(max_size=4),
)
def test_any_rows_end_in_a_book_or_in_an_error(
    tmp_path_factory: pytest.TempPathFactory, header: str, rows: list[list[str]], junk: bytes
) -> None:
    path = tmp_path_factory.mktemp("lists") / "list.csv"
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    path.write_bytes(f"{header}\n{text.getvalue()}".encode(errors="replace") + junk)
    try:
        result = import_prices(path, cloud="mine")
    except CatalogueError as error:
        assert str(path) in str(error)  # noqa: PT017
        return
    target = path.with_suffix(".toml")
    target.write_text(result.text)
    assert load_price_book(str(target)).offers == result.book.offers
