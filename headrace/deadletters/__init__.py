"""Dead letters after they were put aside: read, chosen, shown, re-driven, discarded."""
