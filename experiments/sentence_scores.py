"""Scores of one target over 500 text pairs of a sentence encoder, all its parameters, in the cost of its gradients.

all-MiniLM-L6-v2 (22.6 million parameters, float32), fine-tuned by AdamW on MultipleNegatives (in-batch negatives, scale
20, batches of 32) for three epochs, as `sentence_encoder.py` trains it. Then `vif.attribute` by CG on the Gauss–Newton
matrix with the penalty of a weight decay of 0.01 of the mean loss (λ = 0.01 n) and no damping: to a loose residual with
attention by sdpa (products by differences of outputs) and eager (forward mode), and to 1e-4. The target is the cosine
similarity of two sentences that are not among the pairs. A quick run has 64 pairs.

Seconds are of the processor, on one thread. A gradient is that of the whole loss in plain PyTorch, the least of three.
Memory is the peak of the process, which trains in another.

    python experiments/sentence_scores.py [--quick] [--seed N]
"""

import resource
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch
from torch.nn.functional import normalize

import versatile_influence as vif
from experiments.run import Run
from experiments.sentence_encoder import ASKED, BATCH, EPOCHS, PAIRS, TEMPERATURE, Encoder, fine_tuned, pairs

WEIGHT_DECAY, LOOSE, TIGHT = 0.01, 3e-2, 1e-4
# In this order: peaks of memory are read after each.
SOLVES = {"sdpa": ("sdpa", LOOSE), "solved to 1e-4": ("eager", TIGHT), "eager": ("eager", LOOSE)}


class Sentences(torch.nn.Module):
    """Questions and answers by one encoder, as normalised means of the tokens' embeddings."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def embedded(self, tokens):
        """Return the embeddings of (n, length, 2) numbers of tokens and where there are some."""
        hidden = self.model(input_ids=tokens[..., 0], attention_mask=tokens[..., 1]).last_hidden_state
        weights = tokens[..., 1, None].to(hidden)
        return normalize((hidden * weights).sum(dim=1) / weights.sum(dim=1), dim=-1)

    def forward(self, questions, answers):
        """Return the embeddings of both."""
        return self.embedded(torch.cat([questions, answers])).chunk(2)


def measured(work):
    """Return what work gives, and the seconds of the processor that it takes."""
    began = time.process_time()
    found = work()
    return found, time.process_time() - began


def trained(count, epochs, seed):
    """Return the parameters after the fine-tuning."""
    torch.set_num_threads(1)
    found = fine_tuned(Encoder(), count=count, epochs=epochs, seed=seed).run()
    return {name: value.float().numpy() for name, value in found.items()}


def gradient_seconds(model, batches):
    """Return the seconds of one gradient of the loss in plain PyTorch."""

    def gradient():
        for batch, objects in batches:
            questions, answers = model(*batch)
            scores = questions @ answers.T / TEMPERATURE
            torch.nn.functional.cross_entropy(scores, torch.arange(len(objects)), reduction="sum").backward()
        model.zero_grad()

    return min(measured(gradient)[1] for _ in range(3))


def main():
    """Train, attribute, and record after each solve."""
    run = Run.of(__file__, __doc__)
    torch.set_num_threads(1)
    count, epochs = (64, 1) if run.quick else (PAIRS, EPOCHS)
    with ProcessPoolExecutor(1, get_context("spawn")) as other:
        values = other.submit(trained, count, epochs, run.seed).result()
    encoder = Encoder()
    encoder.model.load_state_dict({name: torch.from_numpy(value) for name, value in values.items()}, strict=False)
    model = Sentences(encoder.model)
    params = {name: value.detach() for name, value in model.named_parameters()}
    asked = [encoder.tokens(sentences) for sentences in zip(*list(ASKED.values())[:1], strict=True)]
    texts = [encoder.tokens(some) for some in pairs(count, torch.Generator().manual_seed(run.seed))]
    batches = [((texts[0][some], texts[1][some]), some) for some in torch.arange(count).split(BATCH)]
    numbers = {"parameters": sum(value.numel() for value in params.values()), "pairs": count}
    numbers |= {"weight decay of the mean loss": WEIGHT_DECAY, "loose residual": LOOSE}

    def similarity(params):
        one, other = torch.func.functional_call(model, params, tuple(asked))
        return (one * other).sum(dim=1)

    outer, found = vif.losses.Contrast(one_way=True, temperature=TEMPERATURE), {}
    for name, (attention, rtol) in SOLVES.items():
        encoder.model.set_attn_implementation(attention)
        each = gradient_seconds(model, batches)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            loss = vif.losses.BatchedLoss(model, batches, outer, penalty=WEIGHT_DECAY * count)
            method = {"solver": vif.CG(rtol=rtol, max_steps=400), "curvature": vif.GaussNewton, "check": False}
            result, seconds = measured(
                lambda loss=loss, method=method: vif.attribute(loss, params, similarity, **method)
            )
        found[name] = result.scores[:, 0]
        numbers[name] = {
            "attention": attention,
            "seconds of a gradient": each,
            "gradients in all": seconds / each,
            "steps": result.solution.num_steps,
            "residual": result.solution.residual.item(),
            "peak memory, GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
            "warnings": [str(one.message)[:120] for one in told if one.category is UserWarning],
        }
        del result, loss
        for one in found.keys() & {"sdpa", "eager"} if "solved to 1e-4" in found else ():
            both = torch.stack([found[one], found["solved to 1e-4"]])
            numbers[one]["r with solved to 1e-4"] = torch.corrcoef(both)[0, 1].item()
        print(name, numbers[name], run.record(numbers), flush=True)


if __name__ == "__main__":
    main()
