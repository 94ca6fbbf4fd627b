"""# Who made this Cox model say so?

A simulated trial: six patients' biomarkers were recorded in a wrong unit, ten times too large.
"""

# %%
# Fit, and ask what the biomarker's coefficient would be without each patient.

import versatile_influence as vif
from versatile_influence.datasets import simulated_trial

trial = simulated_trial(unit_errors=6)
loss = vif.losses.CoxLoss.from_frame(trial, duration_col="months", event_col="died", strata_cols="site")
params = vif.minimize(loss, loss.zeros())
scores = vif.attribute(loss, params, loss.coefficients())
print(scores)

# %%
# The patients that move it most. Hollow dots are not trusted.

vif.plots.top(scores, target="biomarker", k=12)

# %%
# Against the model fitted again without each patient.

truth = vif.refit(loss, params, loss.coefficients())
vif.plots.scatter(scores, truth, target="biomarker")
