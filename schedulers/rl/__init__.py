"""The machinery of the learning schedulers ``mtl-a3c``, ``a3c`` and ``dqn``.

There are two ways to train (option ``train_freq``):

- ``step``: *asynchronous iterations* in workers, which push gradients into one set of shared
  parameters after every k steps of all environments, or in vine rollouts. Steps 1 to 9.
- ``episode``: *stacks* (Algorithm 1 of the paper). Several trainings of one shape run in lockstep
  in one process and learn after each episode. Each is, to the last bit, the training that it would
  be alone. Steps 1 and 10 to 13. Serial trainings of actor-critics without vine rollouts are
  stacks, too, although they learn after every k steps.

Both ways use the networks, the encoder (6), the losses (8), RMSProp (9) and the evaluations of
:mod:`~schedulers.rl.schedule`.

Asynchronous iterations, in order:

1. :mod:`~schedulers.rl.learner`: ``NetworkLearner.train`` makes the algorithm of the learner (a
   string in its class, since it imports PyTorch) for its network and calls the trainer;
   ``NetworkLearner.train_stack`` does so for stacks.
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

Stacks, in order:

10. :mod:`~schedulers.rl.stack`: iterations, evaluations, updates and checkpoints of all trainings.
    One that diverges fails alone.
11. :mod:`~schedulers.rl.episode_learning`: an iteration plays an episode on every work node, stores
    its transitions, and pushes the gradient of one minibatch for each work node.
    :mod:`~schedulers.rl.stacked_generator`: random numbers of each training.
12. :mod:`~schedulers.rl.episodes`: steps the environments of all trainings in one compiled call,
    many steps at once where observations do not depend on placements.
13. :mod:`~schedulers.rl.episodic_actor_critic` (``mtl-a3c``, ``a3c``) or
    :mod:`~schedulers.rl.episodic_q_learning` (``dqn``), with :mod:`~schedulers.rl.replay_buffer`:
    compute the gradients of all trainings in one backward pass.

The networks are in the files of the learners (``schedulers/mtl_a3c.py``, ...), made of the layers
in :mod:`~schedulers.rl.layers`; training options that learners share in
:mod:`~schedulers.rl.settings`. Only training needs PyTorch: policies decide with NumPy.
"""
