"""# What a solver costs

Conjugate gradients on a ridge regression: how far its scores are from the exact ones after some steps.
"""

# %%
# A hundred features of unequal scale.

import torch

import versatile_influence as vif

torch.manual_seed(0)
x = torch.randn(300, 100).double() * torch.logspace(0, -2, 100).double()
y = x.sum(1) + torch.randn(300).double()
terms = vif.losses.SquaredError(y)
loss = vif.losses.TermLoss(terms, torch.arange(300), outputs=vif.losses.Linear(x), penalty=0.1)
params = vif.minimize(loss, loss.zeros())
target = lambda theta: x[:1] @ theta
exact = vif.attribute(loss, params, target, check=False).scores

# %%
# The relative error of all scores by the number of steps.

import warnings

steps, errors = [2, 4, 8, 16, 32, 64], []
for limit in steps:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = vif.attribute(loss, params, target, solver=vif.CG(max_steps=limit), check=False).scores
    errors.append(((found - exact).norm() / exact.norm()).item())
vif.plots.convergence({"CG": (steps, errors)})
