"""A frozen model put to every site: counts and metrics come back, and are pooled as hospitals are."""
