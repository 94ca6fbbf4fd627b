"""Scores of one target over 500 text pairs of a sentence encoder, all its parameters, in the cost of its gradients.

all-MiniLM-L6-v2 (22.6 million parameters, float32), fine-tuned by AdamW on MultipleNegatives (in-batch negatives, scale
20, batches of 32) for three epochs, as `sentence_encoder.py` trains it. Then `vif.attribute` by CG on the Gauss–Newton
matrix with the penalty of a weight decay of 0.01 of the mean loss (λ = 0.01 n) and no damping: to a loose residual with
attention by sdpa (products by differences of outputs) and eager (forward mode), and to 1e-4; then of the last layer
alone, and of LoRA adapters (peft, r = 4, on queries and values, trained as long). The target is the cosine similarity
of two sentences that are not among the pairs. A quick run has 64 pairs.

Seconds are of the processor, on one thread. A gradient is that of the whole loss in plain PyTorch, in the parameters
that are not frozen, the least of three. Memory is the peak of the process so far; it trains all parameters in another.

    python experiments/sentence_scores.py [--quick] [--seed N]
"""

import resource
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import peft
import torch
from torch.nn.functional import normalize

import versatile_influence as vif
from experiments.run import Run
from experiments.sentence_encoder import ASKED, BATCH, EPOCHS, PAIRS, TEMPERATURE, Encoder, fine_tuned, pairs

WEIGHT_DECAY, LOOSE, TIGHT = 0.01, 3e-2, 1e-4
LORA_RATE, PARTS = 1e-3, ("all parameters", "last layer", "LoRA")
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


def summed(model, batch, objects):
    """Return the loss of one batch in plain PyTorch."""
    questions, answers = model(*batch)
    scores = questions @ answers.T / TEMPERATURE
    return torch.nn.functional.cross_entropy(scores, torch.arange(len(objects)), reduction="sum")


def gradient_seconds(model, batches):
    """Return the seconds of one gradient of the loss in plain PyTorch."""

    def gradient():
        for batch, objects in batches:
            summed(model, batch, objects).backward()
        model.zero_grad()

    return min(measured(gradient)[1] for _ in range(3))


def adapted(model, batches, epochs, seed):
    """Let a model have LoRA adapters, trained in plain PyTorch, and all else frozen."""
    torch.manual_seed(seed)
    config = peft.LoraConfig(r=4, target_modules=["query", "value"])
    model.model = peft.get_peft_model(model.model, config).eval()
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=LORA_RATE)
    for batch, objects in batches * epochs:
        optimizer.zero_grad()
        (summed(model, batch, objects) / len(objects)).backward()
        optimizer.step()
    optimizer.zero_grad()


def prepared(part, model, batches, epochs, seed):
    """Freeze all but a part of the parameters, and return that part."""
    if part == "last layer":
        model.requires_grad_(False)
        model.model.encoder.layer[-1].requires_grad_(True)
    elif part == "LoRA":
        adapted(model, batches, epochs, seed)
    return {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}


def solved(model, params, batches, target, *, rtol, penalty):
    """Return the scores, and what they took."""
    each = gradient_seconds(model, batches)
    outer = vif.losses.Contrast(one_way=True, temperature=TEMPERATURE)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        loss = vif.losses.BatchedLoss(model, batches, outer, penalty=penalty)
        solver = vif.CG(rtol=rtol, max_steps=400)
        result, seconds = measured(
            lambda: vif.attribute(loss, params, target, solver=solver, curvature=vif.GaussNewton, check=False)
        )
    return result.scores[:, 0], {
        "seconds of a gradient": each,
        "gradients in all": seconds / each,
        "steps": result.solution.num_steps,
        "residual": result.solution.residual.item(),
        "peak memory, GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "warnings": [str(one.message)[:120] for one in told if one.category is UserWarning],
    }


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
    asked = [encoder.tokens(sentences) for sentences in zip(*list(ASKED.values())[:1], strict=True)]
    texts = [encoder.tokens(some) for some in pairs(count, torch.Generator().manual_seed(run.seed))]
    batches = [((texts[0][some], texts[1][some]), some) for some in torch.arange(count).split(BATCH)]
    numbers = {"pairs": count, "weight decay of the mean loss": WEIGHT_DECAY, "loose residual": LOOSE}

    def similarity(params):
        one, other = torch.func.functional_call(model, params, tuple(asked))
        return (one * other).sum(dim=1)

    for part in PARTS:
        params, found = prepared(part, model, batches, epochs, run.seed), {}
        numbers[part] = {"parameters": sum(value.numel() for value in params.values())}
        for name, (attention, rtol) in SOLVES.items():
            encoder.model.set_attn_implementation(attention)
            told = solved(model, params, batches, similarity, rtol=rtol, penalty=WEIGHT_DECAY * count)
            found[name], numbers[part][name] = told[0], {"attention": attention} | told[1]
            for one in found.keys() & {"sdpa", "eager"} if "solved to 1e-4" in found else ():
                both = torch.stack([found[one], found["solved to 1e-4"]])
                numbers[part][one]["r with solved to 1e-4"] = torch.corrcoef(both)[0, 1].item()
            print(part, name, numbers[part][name], run.record(numbers), flush=True)


if __name__ == "__main__":
    main()
