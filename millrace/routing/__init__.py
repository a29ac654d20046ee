"""Teaching and judging the router: labelled questions in, a scorer and its cost/quality curve out."""
