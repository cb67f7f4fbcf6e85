"""What every MLP neuron fires at, held against nulls: ``stream`` reads stories, ``roles`` says what was found."""
