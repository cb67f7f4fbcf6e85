"""What each capability depends on: readouts, and what they lose without a head, a neuron, a layer."""
