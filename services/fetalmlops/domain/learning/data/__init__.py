"""Files that come with the package: what the classifier is for, and where public data sets lie."""
