"""Judge backends that read the lab's truth, or apply rules, in place of a large language model."""
