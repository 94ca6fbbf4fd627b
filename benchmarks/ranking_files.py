"""Ranking files: time to read one beside scikit-learn's reader, to score its documents, and who is marked in noise.

60,000 documents of 600 queries with 136 features, as in MSLR-WEB, in svmlight's format with document ids, written by
this script. Nothing in them says anything of the grades. Processor seconds, the least of some runs, one thread; both
readers read the same file from the disk's cache, scikit-learn's to a sparse table, ours to a dense one with ids. Marked
as suspicious in noise: by distance alone, and at the false-discovery rate of `vif rank`.

    python benchmarks/ranking_files.py
"""

import tempfile
import time
from pathlib import Path

import torch
from sklearn.datasets import load_svmlight_file

import versatile_influence as vif
from benchmarks.cox_speed import best_seconds
from experiments.run import Run
from versatile_influence.datasets.svmlight import read_svmlight
from versatile_influence.losses import DocumentListMLELoss
from versatile_influence.reading.detection import suspicious

QUERIES, QUICK_QUERIES, EACH, FEATURES, REPEATS = 600, 40, 100, 136, 5


def write_noise(path: Path, *, queries: int, seed: int) -> None:
    """Write documents whose grades are noise."""
    draw = torch.Generator().manual_seed(seed)
    with open(path, "w", encoding="utf-8") as file:
        for query in range(queries):
            x = torch.randn(EACH, FEATURES, generator=draw, dtype=torch.float64).tolist()
            grades = torch.randint(0, 5, (EACH,), generator=draw).tolist()
            for row, (features, grade) in enumerate(zip(x, grades, strict=True)):
                cells = " ".join(f"{column + 1}:{value:.6f}" for column, value in enumerate(features))
                file.write(f"{grade} qid:{query} {cells} # docid = d{query}-{row}\n")


def main():
    """Write, read, score and record."""
    run = Run.of(__file__, __doc__)
    torch.set_num_threads(1)
    queries = QUICK_QUERIES if run.quick else QUERIES
    with tempfile.TemporaryDirectory() as folder:
        path, other = Path(folder) / "train.svm", Path(folder) / "test.svm"
        write_noise(path, queries=queries, seed=run.seed)
        write_noise(other, queries=max(queries // 10, 10), seed=run.seed + 1)
        read, test, size = read_svmlight(path), read_svmlight(other), path.stat().st_size
        theirs = load_svmlight_file(str(path), query_id=True)[0].toarray()
        seconds = {
            "scikit-learn": best_seconds(
                lambda: load_svmlight_file(str(path), query_id=True), REPEATS, time.process_time
            ),
            "read_svmlight": best_seconds(lambda: read_svmlight(path), REPEATS, time.process_time),
        }
    loss = DocumentListMLELoss(read.x, read.relevance, read.qid, penalty=1.0)
    held_out = DocumentListMLELoss(test.x, test.relevance, test.qid)
    best, everyone = vif.minimize(loss, loss.zeros()), torch.ones(len(test.qid), dtype=torch.float64)
    target = lambda params: held_out(params, everyone)[None] / (held_out.n_terms or 1)  # noqa: E731
    scores = vif.attribute(loss, best, target, check=False).scores[:, 0]
    numbers = {
        "documents": len(read.qid),
        "megabytes": size / 1e6,
        "equal to scikit-learn's": bool((read.x.numpy() == theirs).all()),
        "processor seconds": seconds
        | {
            "attribute": best_seconds(
                lambda: vif.attribute(loss, best, target, check=False), REPEATS, time.process_time
            )
        },
        "reading over scikit-learn's": seconds["read_svmlight"] / seconds["scikit-learn"],
        "suspicious in noise": {
            "by distance alone": int(suspicious(scores, rate=1.0).sum()),
            "rule of vif rank": int(suspicious(scores).sum()),
        },
        "share marked": suspicious(scores).double().mean().item(),
        "threads": 1,
    }
    print(numbers)
    print(run.record(numbers))


if __name__ == "__main__":
    main()
