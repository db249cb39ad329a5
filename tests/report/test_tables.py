import dataclasses

from msnlan_jax.report import latex, markdown, page, published
from msnlan_jax.report.results import DatasetResult, Results, StatedProtocol
from msnlan_jax.report.tables import describe_protocol, methods_table, pictures_table, rows
from msnlan_jax.scoring.metrics import Scores
from msnlan_jax.scoring.protocol import Protocol
from tests.report.samples import PROTOCOL, RESULTS, SET5, compared


def test_rows_are_bicubic_others_ours_and_then_the_published():
    found = rows(RESULTS, [compared(), compared("cut", border=6)])
    assert [row.name for row in found[:4]] == ["bicubic", "theirs", "cut", "w.pt"]
    assert [row.name for row in found[4:]] == list(published.scores(4, "Set5"))
    assert [row.note for row in found[:4]] == ["", "no odd", "border 6 instead of 4; no odd", ""]
    tiled = compared("tiled", inference="tile", tile_size=64)
    assert rows(RESULTS, [tiled])[1].note == "inference tile instead of chop; no odd"
    assert [row.ours for row in found].index(True) == 3
    assert found[4].datasets == {"Set5": DatasetResult(Scores(28.42, 0.8104))}
    rgb = Results(4, "w.pt", StatedProtocol.of(Protocol(4, "rgb")), {"Set5": SET5})
    wide = Results(4, "w.pt", StatedProtocol.of(Protocol(4, border=6)), {"Set5": SET5})
    assert [len(rows(other)) for other in (rgb, wide)] == [1, 1]  # published ones would not compare


def test_a_table_holds_what_is_drawn():
    table = methods_table(RESULTS, [compared()])
    assert (table.corner, table.columns) == ("Method", ["Set5", "odd"])
    assert [measure.label for measure in table.measures] == ["PSNR", "SSIM"]
    assert table.notes == [("theirs", "no odd")]
    theirs, ours = table.lines[1:3]
    assert [[(cell.text, cell.best) for cell in column] for column in theirs.cells] == [
        [("34.25", True), ("0.9350", True)],
        [("–", False), ("–", False)],
    ]
    assert [[(cell.text, cell.best) for cell in column] for column in ours.cells] == [
        [("34.00", False), ("0.9200", False)],
        [("–", False), ("1.0000", False)],
    ]
    table = pictures_table(RESULTS, [compared()], "Set5")
    assert (table.corner, table.columns) == ("Picture", ["bicubic", "theirs", "w.pt"])
    assert [(line.name, line.is_mean) for line in table.lines] == [("baby", False), ("bird", False), ("mean", True)]
    assert [[cell.best for cell in column] for column in table.lines[1].cells] == [
        [False, False],
        [True, False],
        [False, True],
    ]


def test_the_protocol_in_words():
    assert describe_protocol(StatedProtocol.of(Protocol(4), self_ensemble=True, inference="chop")) == (
        "PSNR and SSIM on Y, border of 4 left out, rounded to uint8, self ensemble: yes, inference: chop"
    )
    other = StatedProtocol.of(Protocol(4, "rgb", 0, "none"))
    assert describe_protocol(other) == "PSNR and SSIM on RGB, border of 0 left out, not rounded"


def test_markdown():
    table = [
        "**w.pt**, ×4 (psnr: luma, ssim: Y, border: 4, rounding: uint8, inference: chop)",
        "",
        "| data set | pictures | method | PSNR (dB) | SSIM | seconds |",
        "|---|---:|---|---:|---:|---:|",
        "| Set5 | 2 | bicubic | 31.500 | 0.8600 | 0.5 |",
        "| Set5 | 2 | w.pt | 34.000 | 0.9200 | 1.2 |",
        "| odd | 2 | w.pt | – | 1.0000 | 2.0 |",
        "",
        "Seconds are those of up-scaling alone, without reading, compiling and scoring.",
    ]
    pictures = [
        "| picture | PSNR (dB) | SSIM |",
        "|---|---:|---:|",
        "| Set5/baby | 33.500 | 0.9100 |",
        "| Set5/bird | 34.500 | 0.9300 |",
        "| odd/equal | – | 1.0000 |",
        "| odd/small | 20.250 | – |",
    ]
    assert markdown.methods(RESULTS).splitlines() == table
    assert markdown.pictures(RESULTS).splitlines() == pictures


def test_lpips_is_shown_where_it_was_computed():
    scores = DatasetResult.of({"a": Scores(30.0, 0.9, 0.25), "b": Scores(32.0, 0.8, 0.75)}, 0.0)
    found = Results(4, "w.pt", PROTOCOL, {"Set5": scores})
    assert "| Set5 | 2 | w.pt | 31.000 | 0.8500 | 0.5000 | 0.0 |" in markdown.methods(found)
    assert '<th scope="col">LPIPS</th>' in page.page(found, [], [], [])


def test_scores_by_another_protocol_are_never_the_best():
    wide = compared("wide", border=6)  # 34.25 dB, more than ours
    assert [row.rival for row in rows(RESULTS, [wide])[:4]] == [True, False, True, False]
    assert r"wide & 34.25 / 0.9350 & -- / -- \\" in latex.tables(RESULTS, [wide])
    assert r"w.pt & \textbf{34.00} / \textbf{0.9200} & -- / 1.0000 \\" in latex.tables(RESULTS, [wide])
    text = page.page(RESULTS, [wide], [], [])
    assert "<b>34.00</b>" in text
    assert "<b>34.25</b>" not in text
    tiled = compared("tiled", inference="tile")
    assert rows(RESULTS, [tiled])[1].rival  # another way to run, not to score


def test_long_tables_are_cut_where_a_page_ends():
    many = DatasetResult.of({f"{i:03}": Scores(30.0, 0.5) for i in range(100)})
    text = latex.tables(Results(4, "w.pt", PROTOCOL, {"B100": many}))
    assert text.count(r"\begin{tabular}") == 1 + 3
    assert "B100, ×4 (3 of 3)".replace("×", r"$\times$") in text
    assert [text.count(f"{i:03} & 30.00") for i in (0, 39, 40, 99)] == [1] * 4


def test_latex():
    text = latex.tables(dataclasses.replace(RESULTS, weights="w_1 & 50%"), [compared()])
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 3
    lines = text.splitlines()
    assert r"bicubic & 31.50 / 0.8600 & -- / -- \\" in lines
    assert r"theirs & \textbf{34.25} / \textbf{0.9350} & -- / -- \\" in lines
    assert r"w\_1 \& 50\% & 34.00 / 0.9200 & -- / 1.0000 \\" in lines
    assert r"EDSR & 32.46 / 0.8968 & -- / -- \\" in lines
    assert lines.index(r"\multicolumn{3}{l}{Published} \\") == lines.index(r"EDSR & 32.46 / 0.8968 & -- / -- \\") - 2
    assert "yulunzhang/RCAN" in lines[0]
    assert "bold: the best of those measured here" in text
    assert r"bird & 32.00 / 0.8700 & \textbf{35.50} / 0.9200 & 34.50 / \textbf{0.9300} \\" in lines
    assert "border of 4 left out" in text
    beside = latex.tables(RESULTS, [compared("EDSR")]).splitlines()  # measured here, and as published
    assert r"EDSR & \textbf{34.25} / \textbf{0.9350} & -- / -- \\" in beside
    assert r"EDSR & 32.46 / 0.8968 & -- / -- \\" in beside
    assert latex.escape("a\\b~c^d{e}#$") == r"a\textbackslash{}b\textasciitilde{}c\textasciicircum{}d\{e\}\#\$"


def test_our_scores_are_shown_where_the_baseline_is_called_the_same():
    ours = DatasetResult.of({"x": Scores(30.0, 0.9)})
    results = Results(4, "bicubic", PROTOCOL, {"s": ours}, {"s": DatasetResult.of({"x": Scores(20.0, 0.5)})})
    assert "| s/x | 30.000 | 0.9000 |" in markdown.pictures(results)
