"""Readers and writers: instructions, vocabularies, triplets, view features, weights."""
