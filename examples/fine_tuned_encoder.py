"""Which pairs of sentences made a fine-tuned encoder say that two sentences are alike?

Run with a model of transformers, a name or a folder: python examples/fine_tuned_encoder.py [model]
"""

import sys

import torch
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer

import versatile_influence as vif

name = sys.argv[1] if len(sys.argv) > 1 else "sentence-transformers/all-MiniLM-L6-v2"
model, tokenizer = AutoModel.from_pretrained(name, add_pooling_layer=False).eval(), AutoTokenizer.from_pretrained(name)
for part in model.parameters():
    part.requires_grad_(False)
for part in model.encoder.layer[-1].parameters():  # the last layer trains; without these lines, all of it
    part.requires_grad_(True)

animals, things = ["cat", "dog", "horse", "cow", "hen", "fox"], ["ship", "car", "bike", "train", "plane", "bus"]
first, second = zip(*[(a, b) for words in (animals, things) for a in words for b in words if a < b], strict=True)


def tokens(sentences):
    """Return what the model takes."""
    return dict(tokenizer([f"a {word}" for word in sentences], padding=True, return_tensors="pt"))


def embedded(params, given):
    """Return normalised means over the tokens."""
    hidden = torch.func.functional_call(model, params, (), given).last_hidden_state
    return normalize((hidden * given["attention_mask"][..., None]).sum(dim=1), dim=-1)


def step_loss(params, batch, presence):
    """Each sentence finds its partner among those of the pairs present (in-batch negatives)."""
    scores = embedded(params, batch[0]) @ embedded(params, batch[1]).T / 0.05
    among = (scores + torch.where(presence > 0, 0.0, -1e9)).logsumexp(dim=1)
    return (presence * (among - scores.diagonal())).sum() / len(presence)


draw = torch.Generator().manual_seed(0)
steps = [
    ((tokens([first[i] for i in some]), tokens([second[i] for i in some])), some)
    for _ in range(2)
    for some in torch.randperm(len(first), generator=draw).split(10)
]
training = vif.Training(
    step_loss, steps, start=dict(model.named_parameters()), optimizer=vif.AdamW(lr=5e-5), n_objects=len(first)
)
asked = tokens(["cat", "dog", "cat", "ship"])
likeness = vif.LabelledTarget(
    lambda params: (embedded(params, asked)[0::2] * embedded(params, asked)[1::2]).sum(dim=1), ["cat, dog", "cat, ship"]
)
scores = vif.unrolled(training, likeness, smooth=True)  # over Adam's kinks
for target, what in enumerate(scores.targets):
    for i in scores.top(3, target=target).tolist():
        print(f"{what}: without ({first[i]}, {second[i]}) {scores.scores[i, target]:+.4f}")
print(vif.spot_check(scores, training, target=likeness, k=8))
