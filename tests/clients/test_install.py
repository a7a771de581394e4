"""The package is installed and loads in a fresh R."""


def test_loads_in_a_fresh_rscript(rscript):
    out = rscript("library(dkusecrets); cat(as.character(packageVersion('dkusecrets')))")
    assert out == "0.1.0"
