"""The datasheet of a data set as a page: plots, pictures, and the template around them."""
