"""# Whose absence would pull two members of a club apart?

An embedding of Zachary's karate club by its random walks; each node is an object, and without it its edges are gone.
"""

# %%
# Train, and ask how alike members 10 and 16 would be without each of the others.

import networkx as nx

import versatile_influence as vif

club = nx.karate_club_graph()
loss = vif.losses.WalkEmbeddingLoss(club, length=6, window=3, dim=2, penalty=0.5)
params = vif.minimize(loss, loss.start(seed=0))
scores = vif.attribute(loss, params, loss.cosine_similarities([(10, 16)]), tolerance=0.1)
print(scores)

# %%
# Red: without it the two would be more alike; blue: less.

vif.plots.network(loss.graph, scores[0], mark=(10, 16), label="change of the cosine similarity")
