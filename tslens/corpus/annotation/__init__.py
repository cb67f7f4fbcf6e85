"""How the annotator works: from a parse to labels, by rules that know no parser."""
