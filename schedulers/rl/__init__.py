"""The machinery of the learning schedulers ``mtl-a3c``, ``a3c`` and ``dqn``.

A training runs many *iterations* in workers that share one set of parameters. In order:

1. :mod:`~schedulers.rl.learner`: ``NetworkLearner.train`` makes the algorithm of the learner (a
   string in its class, since it imports PyTorch) for its network and calls the trainer.
2. :mod:`~schedulers.rl.trainer` and :mod:`~schedulers.rl.schedule`: submit iterations and
   evaluations to a pool of workers, log their results and save checkpoints.
3. :mod:`~schedulers.rl.workers`, :mod:`~schedulers.rl.ray_workers`: the pools: this process,
   processes of this machine, or actors of a Ray cluster.
4. :mod:`~schedulers.rl.algorithm`: ``perform`` runs one job in a worker: an iteration, or an
   evaluation on validation seeds.
5. :mod:`~schedulers.rl.rollouts`: an iteration is a *vine rollout* (first ones), which simulates
   many candidate placements from each state, or a batch of full episodes (later ones).
6. :mod:`~schedulers.rl.encoding`, :mod:`~schedulers.rl.policy_network`: encode the features of an
   observation and sample placements.
7. :mod:`~schedulers.rl.candidates`: adds mutated and replayed placements to the sampled ones of a
   vine rollout.
8. :mod:`~schedulers.rl.actor_critic` (``mtl-a3c``, ``a3c``) with :mod:`~schedulers.rl.returns`, or
   :mod:`~schedulers.rl.q_learning` (``dqn``) with :mod:`~schedulers.rl.replay_buffer`: compute the
   gradient of a loss.
9. :mod:`~schedulers.rl.parameters`: clip the gradient and apply it to the shared parameters by
   RMSProp.

The networks are in the files of the learners (``schedulers/mtl_a3c.py``, ...), made of the layers
in :mod:`~schedulers.rl.layers`; training options that learners share in
:mod:`~schedulers.rl.settings`. Only steps 5, 8 and training itself need PyTorch: policies decide
with NumPy.
"""
