"""What others published: their files of weights, and their command lines, in our form."""
