/* The weight of one token in the gradient under each of the six losses, in the paper's variants.

   The same arithmetic as finetune_geometry/methods/losses.py, which a test holds it to. No figure
   and no browser is needed here. */
"use strict";

/** Weights by method; the gradient step is the sum over tokens of weight * d log p.

    p: probability that the student gives the token, in (0, 1].
    reward: of the token's rollout, 1 if it is right and 0 if it is wrong.
    others: rewards of the other rollouts of its group.
    margin: h of DPO's pair, 0 at the start of the training.
    constants: {lambda, bias, beta} of RIFT, Offline GRPO and DPO. */
function tokenWeights(p, reward, others, margin, constants) {
  const group = [reward, ...others];
  const mean = group.reduce((sum, r) => sum + r, 0) / group.length;
  // A rollout is in a pair only if its group has one of the other kind.
  const paired = others.some((r) => r !== reward);
  const sign = reward > 0 ? 1 : -1;
  return {
    sft: 1,
    rft: reward,
    dft: p,
    rift: 1 - constants.lambda * reward,
    offline_grpo: reward - mean + constants.bias,
    dpo: paired ? (sign * constants.beta) / (1 + Math.exp(margin)) : 0,
  };
}

if (typeof module !== "undefined") module.exports = { tokenWeights };
