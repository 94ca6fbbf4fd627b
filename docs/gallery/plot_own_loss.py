"""# A loss of one's own: who made a player the favourite?

A season of games among 30 players. A game needs both of its players, so that no player has a loss of their own: it is
no sum over them, and one function says it.
"""

# %%
# Presence is a number a player, 1 or 0; a game counts when both are there.

import torch

import versatile_influence as vif

torch.manual_seed(0)
winner, loser = torch.stack([torch.randperm(30)[:2] for _ in range(400)]).T


def loss(skill, presence):
    games = presence[winner] * presence[loser]
    surprise = torch.nn.functional.softplus(skill[loser] - skill[winner])
    return (games * surprise).sum() + 0.5 * skill.square().sum()


skill = vif.minimize(loss, torch.zeros(30), n_objects=30)

# %%
# Player 0 beats player 1 with this probability, and would with another without each of the others.

favourite = vif.LabelledTarget(lambda skill: torch.sigmoid(skill[:1] - skill[1:2]), ["probability of player 0"])
others = range(2, 30)
scores = vif.attribute(loss, skill, favourite, n_objects=30, objects=others)
print(favourite(skill).item(), scores, sep="\n")

# %%
# Who pushed it up, and who down. Hollow steps are not trusted.

vif.plots.waterfall(scores, value=favourite(skill).item())

# %%
# Against the season really rated again without each of them.

truth = vif.refit(loss, skill, favourite, n_objects=30, objects=others)
vif.plots.scatter(scores, truth)
