"""# Which judgements made this document rank first?

Learning to rank: 60 queries of 6 documents each, judged 0 to 2; in five queries somebody turned the scale around.
"""

# %%
# Fit ListMLE to the judgements. Documents are the objects: without one, its list is shorter, and what stood above and
# below it meets directly.

import torch

import versatile_influence as vif

draw = torch.Generator().manual_seed(0)
x = torch.randn(360, 4, generator=draw).double()
query = torch.arange(60).repeat_interleave(6)
relevance = (x @ torch.tensor([1.0, 0.5, 0.0, 0.0]).double() + 0.3 * torch.randn(360, generator=draw)).div(0.8).round()
relevance = relevance.clamp(-1, 1) + 1
turned = query < 5
relevance[turned] = 2 - relevance[turned]

loss = vif.losses.DocumentListMLELoss(x, relevance, query, penalty=0.1)
params = vif.minimize(loss, loss.zeros())

# %%
# A new query with two documents: by how much does the first lead?

new = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]).double()
lead = vif.LabelledTarget(lambda theta: (new[:1] - new[1:]) @ theta, ["lead"])
scores = vif.attribute(loss, params, lead)
print(scores)

# %%
# Who pushed the lead up, and who down: most of the twelve are of queries that were turned around.

vif.plots.waterfall(scores, k=12, value=lead(params).item())
print("of the 12 largest, in turned queries:", int(turned[scores.top(12)].sum()))

# %%
# Against the model fitted again without each document.

truth = vif.refit(loss, params, lead)
vif.plots.scatter(scores, truth)
