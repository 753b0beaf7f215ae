"""From scores to tables: statistics, comparisons, claims."""
