"""Any loss, one function: which players' absence would change who is favoured? A Bradley–Terry model."""

import torch

import versatile_influence as vif

torch.manual_seed(0)
winner, loser = torch.stack([torch.randperm(30)[:2] for _ in range(400)]).T  # a season of games among 30 players


def loss(skill, presence):
    """A game needs both players, so no player has a loss of their own."""
    games = presence[winner] * presence[loser]
    surprise = torch.nn.functional.softplus(skill[loser] - skill[winner])
    return (games * surprise).sum() + 0.5 * skill.square().sum()


def target(skill):
    """Player 0 beats player 1 with this probability."""
    return torch.sigmoid(skill[0] - skill[1])


skill = vif.minimize(loss, torch.zeros(30), n_objects=30)
estimate = vif.attribute(loss, skill, target, n_objects=30, objects=range(2, 30))
print("most influential players:", estimate.top(5).tolist())

truth = vif.leave_one_out(
    lambda presence: vif.minimize(loss, skill, presence),
    target,
    n_objects=30,
    objects=range(2, 30),
    progress=False,
)
print(f"Pearson with retraining {vif.pearson(estimate, truth).item():.4f}")
