"""Recurrent layers as single operations: `lstm`, `gru`, `rnn_tanh` and `rnn_relu`, each with its gradient.

One operation is one layer in one direction, over all time steps. What it saves for its gradient is part of
its definition (activations of the gates, cell states), so any runtime can compute either of the two.

| module | what it holds |
|---|---|
| `schema` | names, arguments, results and shapes; refusal of what does not fit; cost |
| `reference` | the definition, in plain functions of core ATen; also the unrolled form |
| `fast_lstm`, `fast_gru`, `fast_rnn` | the same for an executor: few operations a step, no allocation |
| `stepping`, `products` | what these share: the walk over the steps, products over all steps |
| `onednn` | LSTM by oneDNN, for an executor |
| `kernels`, `substitution` | these functions by their operations; a graph with them in their place |
| `operators` | the operators `torch.ops.fedplan.*`, with autograd |
| `layers` | `nn.LSTM`, `nn.GRU`, `nn.RNN` said with these operators |
| `packed`, `interception` | what PyTorch's calls become while a function is traced |
"""
