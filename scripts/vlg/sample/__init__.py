"""Drawing and redrawing: the sampler, what is drawn, the arms."""
